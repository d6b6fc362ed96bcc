"""A configuration turned into the stages that make and measure it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autotune import plugins
from autotune.artifact import Stage
from autotune.contracts import Technique
from autotune.space import Configuration, Scalar
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
        timeout_s: When a stage of any kind is killed.
    """

    precision: float = 0.01
    min_s: float = 0.4
    max_s: float = 1.2
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Plan:
    """The stages of one configuration: the two that measure it, and the network they start from."""

    network: Stage
    accuracy: Stage
    latency: Stage

    def chain(self) -> tuple[Stage, ...]:
        """Every stage, each once, inputs first."""
        stages = {s.key: s for s in (*self.accuracy.chain(), *self.latency.chain())}
        return tuple(stages.values())


def plan(
    configuration: Configuration, subject: Subject, targets: Mapping[str, Target], effort: Effort
) -> Plan:
    """The stages of ``configuration``; configurations that share a prefix share its keys."""
    network = _network(configuration, subject, effort)
    backend = plugins.load("backends", str(configuration["backend"]))
    artifact = backend.stages(configuration, network, subject.data)
    target = _target(configuration, targets)
    runtime = _runtime(configuration)
    libraries = tuple(plugins.version(name) for name in backend.libraries)
    shared = {"backend": configuration["backend"], "settings": runtime}
    accuracy = Stage(
        name="accuracy",
        function="autotune.engine.judge:accuracy",
        kind="accuracy",
        parameters={
            **shared,
            "metrics": dict(subject.metrics),
            "machine": _hardware(target),
        },
        inputs=(artifact, subject.data, _reference(network, subject)),
        libraries=libraries,
        timeout_s=effort.timeout_s,
    )
    latency = Stage(
        name="latency",
        function="autotune.engine.lane:latency",
        kind="latency",
        parameters={
            **shared,
            "batch": configuration["batch"],
            "threads": configuration["threads"],
            "effort": {k: v for k, v in asdict(effort).items() if k != "timeout_s"},
            "machine": _hardware(target),
            "lane_cores": target.lane_cores,
        },
        inputs=(artifact, subject.data),
        libraries=libraries,
        hints={"target": asdict(target)},
        lane=target.name,
        timeout_s=effort.timeout_s,
    )
    return Plan(network, accuracy, latency)


def _network(configuration: Configuration, subject: Subject, effort: Effort) -> Stage:
    """The given model with every active technique applied, in the order of their positions."""
    network = subject.source
    if not subject.model.trainable:
        return network
    loaded = [(name, plugins.load("techniques", name)) for name in plugins.names("techniques")]
    for name, technique in sorted(loaded, key=lambda pair: pair[1].position):
        if not _active(technique, configuration, subject.model):
            continue
        inputs = [network]
        if technique.needs_data:
            inputs.append(subject.data)
        if technique.needs_teacher:
            inputs.append(_logits(subject))
        network = Stage(
            name=name,
            function="autotune.engine.build:technique",
            kind="network",
            parameters={
                "technique": name,
                "settings": _settings(technique, configuration, subject.model),
                "seed": subject.seed,
            },
            inputs=tuple(inputs),
            libraries=tuple(plugins.version(library) for library in technique.libraries),
            timeout_s=effort.timeout_s,
        )
    return network


def _active(technique: Technique, configuration: Configuration, model: ModelSource) -> bool:
    present = any(name.split(".")[0] in technique.sections for name in configuration)
    return present and technique.when(model).holds(configuration)


def _settings(
    technique: Technique, configuration: Configuration, model: ModelSource
) -> dict[str, Scalar]:
    """The technique's own knobs, and nothing else: defaults where the configuration has none."""
    found: dict[str, Scalar] = {}
    for section, parameters in technique.parameters(model).items():
        for parameter in parameters:
            if parameter.when.holds(configuration):
                name = f"{section}.{parameter.name}"
                found[name] = configuration.get(name, parameter.default)
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
