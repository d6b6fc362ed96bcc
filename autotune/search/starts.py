"""Where a search begins: the baselines, and what an expert would try first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain, zip_longest

from autotune import plugins
from autotune.contracts import SHARED, Parameter
from autotune.errors import Infeasible
from autotune.space import Choice, Configuration, Knob, Scalar
from autotune.spec import Spec
from autotune.spec.core import BATCHER, SERVER
from autotune.target import Target

_OURS = ("target", "device", "batch", "threads", "precision", "backend")


def baselines(spec: Spec) -> tuple[Configuration, ...]:
    """The model as given, in PyTorch FP32 eager, at every searched batch on every target.

    An ONNX model runs in ONNX Runtime with its defaults. A baseline need not be a point of the
    space: it is what every other configuration is compared with. In front of a server it answers
    each request by itself: what batching gains is part of what is found.
    """
    found: dict[str, Configuration] = {}
    for target in spec.targets:
        for batch in _values(_knob(spec, "batch")):
            point = _baseline(spec, target, batch)
            found.setdefault(point.key, point)
    return tuple(found.values())


def experts(spec: Spec) -> tuple[Configuration, ...]:
    """What an expert would try first, in as many trials as half of the budget.

    First each backend at INT8 (where the space or the backend has none: at the first precision that
    it takes); then every way in which a technique of the space changes the network, alone; then
    the backends at their other precisions, in turn. All else is at its default.
    """
    rounds = zip_longest(*(_precisions(spec, backend) for backend in _backends(spec)))
    some = [[point for point in points if point is not None] for points in rounds]
    first, *rest = some or [[]]  # the defaults alone may be among what cannot run
    found = {point.key: point for point in (*first, *_changes(spec), *chain(*rest))}
    return tuple(found.values())[: max(1, spec.budget.trials // 2)]


def _precisions(spec: Spec, backend: Scalar) -> list[Configuration]:
    """The backend at every precision that it takes, the model untouched; INT8 first."""
    words = sorted(_values(_knob(spec, "precision")), key=lambda word: word != "int8")
    return _feasible(spec, [{"backend": backend, "precision": word} for word in words])


def _changes(spec: Spec) -> list[Configuration]:
    """A configuration for each way a technique of the space changes the network.

    A way is a knob that brings the technique in by itself: a word of it each, of numbers the middle
    one. It is taken where it can run first, the baseline's backend last.
    """
    techniques = [plugins.load("techniques", name) for name in plugins.names("techniques")]
    found: list[Configuration] = []
    for technique in sorted(techniques, key=lambda t: t.position) if spec.model.trainable else ():
        when = technique.when(spec.model)
        own = [k for k in spec.space.knobs if k.name.split(".")[0] in technique.sections]
        for knob in (k for k in own if k.name in when.knobs()):
            for value in _others(spec, knob):
                points = (
                    point
                    for backend in _backends(spec)
                    for point in _precisions_with(spec, backend, knob.name, value)
                )
                found += next(([p] for p in points if when.holds(p)), [])
    return found


def _precisions_with(spec: Spec, backend: Scalar, name: str, value: Scalar) -> list[Configuration]:
    return _feasible(spec, [{**p, name: value} for p in _precisions(spec, backend)])


def _others(spec: Spec, knob: Knob) -> tuple[Scalar, ...]:
    """Values that differ from the model as given: every word, or the middle one of the numbers."""
    others = tuple(value for value in _values(knob) if value != _untouched(spec, knob))
    words = any(isinstance(value, str) for value in others)
    return others if words or not others else (others[(len(others) - 1) // 2],)


def _backends(spec: Spec) -> list[Scalar]:
    """The backends in the space's order, the one that the baseline runs in last."""
    return sorted(_values(_knob(spec, "backend")), key=lambda word: word == _native(spec))


def _feasible(spec: Spec, changes: Iterable[Mapping[str, Scalar]]) -> list[Configuration]:
    """Every knob at its default but for ``changes``, each that can run."""
    defaults = {knob.name: _default(spec, knob) for knob in spec.space.knobs}
    found = []
    for changed in changes:
        with suppress(Infeasible):
            found.append(spec.space.configure({**defaults, **changed}))
    return found


def _native(spec: Spec) -> str:
    """The backend that the model as given runs in."""
    return "torch" if spec.model.trainable else "onnxruntime"


def _baseline(spec: Spec, target: Target, batch: Scalar) -> Configuration:
    backend = _native(spec)
    techniques = [k for k in spec.space.knobs if k.name.split(".")[0] not in (*_OURS, *SHARED)]
    values: dict[str, Scalar] = {
        "precision": "fp32",
        "backend": backend,
        "batch": batch,
        "threads": _threads(spec, target),
    }
    if len(spec.targets) > 1:
        values["target"] = target.name
    if any(one.gpu is not None for one in spec.targets):
        values["device"] = target.device
    for parameter in plugins.load("backends", backend).parameters():
        if parameter.when.holds(values):
            values[f"{backend}.{parameter.name}"] = parameter.default
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
    found = list(BATCHER if section == SERVER else SHARED.get(section, ()))
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
