"""Where a search begins: the baselines, and what an expert would try first."""

from __future__ import annotations

from autotune import plugins
from autotune.contracts import SHARED, Parameter
from autotune.errors import Infeasible
from autotune.space import Choice, Configuration, Knob, Scalar
from autotune.spec import Spec
from autotune.target import Target

_OURS = ("target", "batch", "threads", "precision", "backend")


def baselines(spec: Spec) -> tuple[Configuration, ...]:
    """The model as given, in PyTorch FP32 eager, at every searched batch on every target.

    An ONNX model runs in ONNX Runtime with its defaults. A baseline need not be a point of the
    space: it is what every other configuration is compared with.
    """
    found: dict[str, Configuration] = {}
    for target in spec.targets:
        for batch in _values(_knob(spec, "batch")):
            point = _baseline(spec, target, batch)
            found.setdefault(point.key, point)
    return tuple(found.values())


def experts(spec: Spec) -> tuple[Configuration, ...]:
    """Every backend at every precision with its defaults, smallest batch; the model untouched."""
    found: dict[str, Configuration] = {}
    defaults = {knob.name: _default(spec, knob) for knob in spec.space.knobs}
    for backend in _values(_knob(spec, "backend")):
        for precision in _values(_knob(spec, "precision")):
            try:
                point = spec.space.configure(
                    {**defaults, "backend": backend, "precision": precision}
                )
            except Infeasible:
                continue
            found.setdefault(point.key, point)
    return tuple(found.values())


def _baseline(spec: Spec, target: Target, batch: Scalar) -> Configuration:
    backend = "torch" if spec.model.trainable else "onnxruntime"
    techniques = [k for k in spec.space.knobs if k.name.split(".")[0] not in (*_OURS, *SHARED)]
    values: dict[str, Scalar] = {
        **{
            f"{backend}.{p.name}": p.default for p in plugins.load("backends", backend).parameters()
        },
        "precision": "fp32",
        "backend": backend,
        "batch": batch,
        "threads": _threads(spec, target),
    }
    if len(spec.targets) > 1:
        values["target"] = target.name
    for knob in techniques:
        if knob.when.holds(values):
            values[knob.name] = _untouched(spec, knob)
    try:
        return spec.space.configure(values)
    except Infeasible:  # it need not be in the space: what hangs on nothing else, as it is
        return Configuration(tuple(sorted(values.items())))


def _untouched(spec: Spec, knob: Knob) -> Scalar:
    """The value that leaves the model as given, be it in the space or not."""
    given = next((p.default for p in declared(spec, knob)), None)
    return _default(spec, knob) if given is None else given


def _default(spec: Spec, knob: Knob) -> Scalar:
    """What its owner calls its default where the space has it, else the first value."""
    if knob.name == "threads":
        return _threads(spec, spec.targets[0])
    default = next((p.default for p in declared(spec, knob)), None)
    if default is not None and knob.domain.contains(default):
        return default
    return _values(knob)[0]


def declared(spec: Spec, knob: Knob) -> list[Parameter]:
    """What the knob's owner declares of it: one parameter, or none for the words all share."""
    section, _, word = knob.name.partition(".")
    found = list(SHARED.get(section, ()))
    if section in plugins.names("backends"):
        found += plugins.load("backends", section).parameters()
    for name in plugins.names("techniques"):
        found += plugins.load("techniques", name).parameters(spec.model).get(section, ())
    return [parameter for parameter in found if parameter.name == word]


def _threads(spec: Spec, target: Target) -> Scalar:
    """The most threads that the space has and a lane can feed."""
    fitting = [v for v in _values(_knob(spec, "threads")) if int(v) <= target.lane_cores]
    return max(fitting, key=int) if fitting else target.lane_cores


def _knob(spec: Spec, name: str) -> Knob:
    return next(knob for knob in spec.space.knobs if knob.name == name)


def _values(knob: Knob) -> tuple[Scalar, ...]:
    """Its values; of a continuous range, the two ends."""
    if isinstance(knob.domain, Choice):
        return knob.domain.values
    return knob.domain.grid() or (knob.domain.low, knob.domain.high)
