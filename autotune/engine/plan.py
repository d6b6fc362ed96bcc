"""A configuration turned into the stages that make and measure it."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from autotune import plugins
from autotune.artifact import Stage
from autotune.contracts import Backend, Technique
from autotune.space import Configuration, Scalar, Space
from autotune.target import Target
from autotune.task import ModelSource


@dataclass(frozen=True)
class Subject:
    """What is tuned: the user's model and data, taken in, and how results are judged.

    Attributes:
        model: The model as given.
        source: The stage whose artifact is the given model (a network, or an ONNX file).
        data: The stage whose artifact holds the arrays.
        metrics: For each metric's word, what computes it: a plug-in's name, or file and name.
        seed: For every training.
    """

    model: ModelSource
    source: Stage
    data: Stage
    metrics: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Effort:
    """How long one latency measurement may take, and how narrow it should get.

    Attributes:
        precision: Relative half-width of the p50's interval at which it may end.
        min_s, max_s: Bounds of its measuring time, in seconds.
        tail_below_ms: A model whose median is not above it is measured on, up to ``tail_max_s``,
            until the p99 has an upper bound: an SLO limits it.
        timeout_s: When a stage of any kind is killed.
    """

    precision: float = 0.01
    min_s: float = 0.4
    max_s: float = 1.2
    tail_below_ms: float | None = None
    tail_max_s: float = 10.0
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Needs:
    """What the configurations of a space ask of the data.

    Attributes:
        trains: Whether any of them trains.
        train: Whether any reads the training data.
        calibration: The most calibration samples that one asks for.
    """

    trains: bool = False
    train: bool = False
    calibration: int = 0


def needs(space: Space, model: ModelSource) -> Needs:
    """What ``space`` asks of the data: of all its points, or of many where it is not finite."""
    grid = space.grid()
    if grid is not None:
        points = list(grid.points)
    else:
        draw = random.Random(0)
        points = [space.draw(draw) for _ in range(_DRAWS)]
    pairs = [(t, p) for p in points for _, t in _techniques(p, model)]
    trained = any(t.trains(_settings(t, p, model, t.sections)) for t, p in pairs)
    asked = [int(p["ptq.samples"]) for p in points if p.get("ptq.samples") is not None]
    return Needs(
        trains=trained,
        train=any(technique.needs_data for technique, _ in pairs),
        calibration=max(asked, default=0),
    )


_DRAWS = 200


@dataclass(frozen=True)
class Plan:
    """The stages of one configuration.

    Attributes:
        network: The network it starts from.
        accuracy, latency: The two that measure it.
        proxy: The latency of the same shapes untrained; None where nothing is trained. It decides
            whether a training is worth its while, and is never a trial's latency.
    """

    network: Stage
    accuracy: Stage
    latency: Stage
    proxy: Stage | None = None

    def chain(self) -> tuple[Stage, ...]:
        """Every stage, each once, inputs first."""
        stages = {s.key: s for s in (*self.accuracy.chain(), *self.latency.chain())}
        return tuple(stages.values())


def plan(
    configuration: Configuration, subject: Subject, targets: Mapping[str, Target], effort: Effort
) -> Plan:
    """The stages of ``configuration``; configurations that share a prefix share its keys."""
    network = _network(configuration, subject)
    backend = plugins.load("backends", str(configuration["backend"]))
    artifact = backend.stages(configuration, network, subject.data)
    target = _target(configuration, targets)
    accuracy = Stage(
        name="accuracy",
        function="autotune.engine.judge:accuracy",
        kind="accuracy",
        parameters={
            "backend": configuration["backend"],
            "settings": _runtime(configuration),
            "metrics": dict(subject.metrics),
            "machine": _hardware(target),
            **_batch(configuration, backend),
            **({"kept": configuration["ptq.keep"]} if configuration.get("ptq.keep") else {}),
        },
        inputs=(artifact, subject.data, _reference(network, subject)),
        libraries=_libraries(configuration),
    )
    latency = _latency(configuration, artifact, subject, target, effort)
    structure = _structure(configuration, subject)
    proxy = None
    if structure is not None and not configuration.get("ptq.keep"):  # which hangs on the weights
        shaped = backend.stages(configuration, structure, subject.data)
        proxy = _latency(configuration, shaped, subject, target, effort)
    timed = {"timeout_s": effort.timeout_s}
    return Plan(
        _all(network, timed),
        _all(accuracy, timed),
        _all(latency, timed),
        _all(proxy, timed) if proxy is not None else None,
    )


def _all(stage: Stage, changes: Mapping[str, Any]) -> Stage:
    """The stage and all before it with what is not in their keys changed."""
    return replace(stage, inputs=tuple(_all(s, changes) for s in stage.inputs), **changes)


def _latency(
    configuration: Configuration, artifact: Stage, subject: Subject, target: Target, effort: Effort
) -> Stage:
    return Stage(
        name="latency",
        function="autotune.engine.lane:latency",
        kind="latency",
        parameters={
            "backend": configuration["backend"],
            "settings": _runtime(configuration),
            "batch": configuration["batch"],
            "threads": configuration["threads"],
            "effort": {k: v for k, v in asdict(effort).items() if k != "timeout_s"},
            "machine": _hardware(target),
            "lane_cores": target.lane_cores,
        },
        inputs=(artifact, subject.data),
        libraries=_libraries(configuration),
        hints={"target": asdict(target)},
        lane=target.name,
    )


def _batch(configuration: Configuration, backend: Backend) -> dict[str, Scalar]:
    """The batch, where the accuracy hangs on it."""
    settings = _runtime(configuration)
    return {"batch": configuration["batch"]} if backend.depends_on_batch(settings) else {}


def _libraries(configuration: Configuration) -> tuple[str, ...]:
    backend = plugins.load("backends", str(configuration["backend"]))
    return tuple(plugins.version(name) for name in backend.libraries)


def _network(configuration: Configuration, subject: Subject) -> Stage:
    """The given model with every active technique applied, in the order of their positions."""
    network = subject.source
    for name, technique in _techniques(configuration, subject.model):
        network = _applied(name, technique, configuration, subject, network)
    return network


def _applied(
    name: str, technique: Technique, configuration: Configuration, subject: Subject, network: Stage
) -> Stage:
    inputs = [network]
    if technique.needs_data:
        inputs.append(subject.data)
    if technique.needs_teacher:
        inputs.append(_logits(subject))
    settings = _settings(technique, configuration, subject.model, technique.sections)
    parameters = {"technique": name, "settings": settings, "seed": subject.seed}
    made = _technique(name, technique, parameters, inputs)
    return replace(made, hints={_TRAINS: True}) if technique.trains(settings) else made


_TRAINS = "trains"


def trains(stage: Stage) -> bool:
    """Whether the stage runs the training loop."""
    return bool(stage.hints.get(_TRAINS))


def _structure(configuration: Configuration, subject: Subject) -> Stage | None:
    """The same shapes with nothing trained; None where nothing would be, or shapes hang on it.

    Where they hang on the weights as given, or on a clock, the network itself is taken: made twice
    it could come out twice.
    """
    network = made = subject.source
    trained = False
    for name, technique in _techniques(configuration, subject.model):
        settings = _settings(technique, configuration, subject.model, technique.sections)
        shapes = technique.shapes(settings)
        trained = trained or technique.trains(settings)
        if shapes is None and trained:
            return None
        made = _applied(name, technique, configuration, subject, made)
        if shapes is None:
            network = made
        elif shapes:
            inputs = [network, subject.data] if technique.needs_data else [network]
            parameters = {
                "technique": name,
                "settings": _settings(technique, configuration, subject.model, shapes),
                "seed": subject.seed,
                "untrained": True,
            }
            network = _technique(name, technique, parameters, inputs)
    return network if trained else None


def _technique(
    name: str,
    technique: Technique,
    parameters: Mapping[str, Any],
    inputs: Sequence[Stage],
) -> Stage:
    return Stage(
        name=f"{name} (untrained)" if parameters.get("untrained") else name,
        function="autotune.engine.build:technique",
        kind="network",
        parameters=parameters,
        inputs=tuple(inputs),
        libraries=tuple(plugins.version(library) for library in technique.libraries),
    )


def _techniques(configuration: Configuration, model: ModelSource) -> list[tuple[str, Technique]]:
    """The active techniques in their order."""
    if not model.trainable:
        return []
    loaded = [(name, plugins.load("techniques", name)) for name in plugins.names("techniques")]
    active = [pair for pair in loaded if _active(pair[1], configuration, model)]
    return sorted(active, key=lambda pair: pair[1].position)


def _active(technique: Technique, configuration: Configuration, model: ModelSource) -> bool:
    present = any(name.split(".")[0] in technique.sections for name in configuration)
    if not present:
        return False
    own = _settings(technique, configuration, model, technique.sections)
    return technique.when(model).holds({**configuration, **own})


def _settings(
    technique: Technique,
    configuration: Configuration,
    model: ModelSource,
    sections: Collection[str],
) -> dict[str, Scalar]:
    """The technique's own knobs of these sections: defaults where the configuration has none."""
    known: dict[str, Scalar] = dict(configuration)
    found: dict[str, Scalar] = {}
    for section, parameters in technique.parameters(model).items():
        for parameter in parameters:
            if parameter.when.holds(known):
                name = f"{section}.{parameter.name}"
                known.setdefault(name, parameter.default)
                if section in sections:
                    found[name] = known[name]
    return found


def _logits(subject: Subject) -> Stage:
    return Stage(
        name="teacher logits",
        function="autotune.engine.build:logits",
        kind="logits",
        inputs=(subject.source, subject.data),
        libraries=(plugins.version("torch"),),
    )


def _reference(network: Stage, subject: Subject) -> Stage:
    """The outputs that every conversion of ``network`` is compared with."""
    runtime = "torch" if subject.model.trainable else "onnxruntime"
    return Stage(
        name="reference",
        function="autotune.engine.build:reference",
        kind="logits",
        inputs=(network, subject.data),
        libraries=(plugins.version(runtime),),
    )


def _runtime(configuration: Configuration) -> dict[str, Scalar]:
    """What a session reads: the precision and the backend's own knobs."""
    prefix = f"{configuration['backend']}."
    return {k: v for k, v in configuration.items() if k == "precision" or k.startswith(prefix)}


def _target(configuration: Configuration, targets: Mapping[str, Target]) -> Target:
    name = configuration.get("target", next(iter(targets)))
    return targets[str(name)]


def _hardware(target: Target) -> dict[str, Any]:
    return {"cpu": target.machine.cpu, "flags": list(target.machine.flags)}
