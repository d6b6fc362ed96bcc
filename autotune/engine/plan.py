"""A configuration turned into the stages that make and measure it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from autotune import plugins
from autotune.artifact import Stage
from autotune.engine.networks import active, network, settings_of, structure, trains
from autotune.engine.subject import Effort, Needs, Subject
from autotune.errors import MachineError
from autotune.scenario import MAX_BATCH, SINGLE_STREAM, Scenario
from autotune.space import Configuration, Scalar, Space
from autotune.target import Target
from autotune.task import ModelSource

__all__ = ["Effort", "Needs", "Plan", "Subject", "needs", "plan", "trains"]


def needs(space: Space, model: ModelSource) -> Needs:
    """What ``space`` asks of the data: of all its points, or of many where it is not finite."""
    grid = space.grid()
    if grid is not None:
        points = list(grid.points)
    else:
        draw = random.Random(0)
        points = [space.draw(draw) for _ in range(_DRAWS)]
    pairs = [(t, p) for p in points for _, t in active(p, model)]
    trained = any(t.trains(settings_of(t, p, model, t.sections)) for t, p in pairs)
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
    configuration: Configuration,
    subject: Subject,
    targets: Mapping[str, Target],
    effort: Effort,
    scenario: Scenario = SINGLE_STREAM,
) -> Plan:
    """The stages of ``configuration``; configurations that share a prefix share its keys."""
    target = _target(configuration, targets)
    model = network(configuration, subject, hardware(target))
    backend = plugins.load("backends", str(configuration["backend"]))

    def measured(of: Stage) -> Stage:
        artifact = backend.stages({**configuration, **target.words}, of, subject.data)
        artifact = _alone(artifact, target)
        return _latency(configuration, artifact, subject, target, effort, scenario)

    shapes, proxy = structure(configuration, subject, hardware(target)), None
    latency = measured(model)
    if shapes is not None and not configuration.get("ptq.keep"):  # which hangs on the weights
        proxy = measured(shapes)
    accuracy = _accuracy(configuration, latency.inputs[0], model, subject, target)
    accuracy = _alone(accuracy, target)
    timed = {"timeout_s": effort.timeout_s}
    return Plan(
        _all(model, timed),
        _all(accuracy, timed),
        _all(latency, timed),
        _all(proxy, timed) if proxy is not None else None,
    )


def _all(stage: Stage, changes: Mapping[str, Any]) -> Stage:
    """The stage and all before it with what is not in their keys changed."""
    return replace(stage, inputs=tuple(_all(s, changes) for s in stage.inputs), **changes)


def _alone(stage: Stage, target: Target) -> Stage:
    """The same stages, where those that compute on the target's GPU hold its lane meanwhile.

    To build an engine kernels are timed, and who else used the GPU would disturb a measurement.
    """
    if target.gpu is None:
        return stage
    inputs = tuple(_alone(one, target) for one in stage.inputs)
    if stage.kind not in ("engine", "accuracy"):
        return replace(stage, inputs=inputs)
    hints = {**stage.hints, "target": asdict(target)}
    return replace(stage, inputs=inputs, lane=target.name, hints=hints)


def _accuracy(
    configuration: Configuration, artifact: Stage, model: Stage, subject: Subject, target: Target
) -> Stage:
    return Stage(
        name="accuracy",
        function="autotune.engine.judge:accuracy",
        kind="accuracy",
        parameters={
            "backend": configuration["backend"],
            "settings": runtime(configuration, target),
            "metrics": dict(subject.metrics),
            "machine": hardware(target),
            **_batch(configuration, target),
            **({"kept": configuration["ptq.keep"]} if configuration.get("ptq.keep") else {}),
        },
        inputs=(artifact, subject.data, _reference(model, subject)),
        libraries=_libraries(configuration),
    )


def _latency(
    configuration: Configuration,
    artifact: Stage,
    subject: Subject,
    target: Target,
    effort: Effort,
    scenario: Scenario,
) -> Stage:
    asked: dict[str, Any] = {}
    if scenario != SINGLE_STREAM:
        asked["scenario"] = scenario.request(configuration)
    if scenario.kind == "server":
        asked["revision"] = 2  # the search for the rate
    return Stage(
        name="latency",
        function="autotune.engine.lane:latency",
        kind="latency",
        parameters={
            "backend": configuration["backend"],
            "settings": runtime(configuration, target),
            "batch": configuration["batch"],
            "threads": configuration["threads"],
            "effort": {k: v for k, v in asdict(effort).items() if k != "timeout_s"},
            "machine": hardware(target),
            "lane_cores": target.lane_cores,
            "heap": "held",
            **asked,
        },
        inputs=(artifact, subject.data),
        libraries=_libraries(configuration),
        hints={"target": asdict(target)},
        lane=target.name,
    )


def _batch(configuration: Configuration, target: Target) -> dict[str, Scalar]:
    """The batch, where the accuracy hangs on it: a server's is the largest that it makes."""
    backend = plugins.load("backends", str(configuration["backend"]))
    if not backend.depends_on_batch(runtime(configuration, target)):
        return {}
    return {"batch": configuration.get(MAX_BATCH, configuration["batch"])}


def _libraries(configuration: Configuration) -> tuple[str, ...]:
    backend = plugins.load("backends", str(configuration["backend"]))
    return tuple(plugins.version(name) for name in backend.libraries)


def _reference(network: Stage, subject: Subject) -> Stage:
    """The outputs that every conversion of ``network`` is compared with."""
    runtime = "torch" if subject.model.trainable else "onnxruntime"
    return Stage(
        name="reference",
        function="autotune.engine.build:reference",
        kind="logits",
        parameters={"revision": 2},  # it tells the weights that are read, and an ONNX graph's size
        inputs=(network, subject.data),
        libraries=(plugins.version(runtime),),
    )


def runtime(configuration: Configuration, target: Target | None = None) -> dict[str, Scalar]:
    """What a session reads: the precision, the backend's own knobs, and the target's GPU.

    Raises:
        MachineError: It is for a GPU, and the target that has it is not given.
    """
    if target is None and configuration.get("device") == "cuda":
        raise MachineError("this configuration is for a GPU, and no target says which")
    prefix = f"{configuration['backend']}."
    own = {k: v for k, v in configuration.items() if k == "precision" or k.startswith(prefix)}
    return {**own, **(target.words if target else {})}


def _target(configuration: Configuration, targets: Mapping[str, Target]) -> Target:
    name = configuration.get("target", next(iter(targets)))
    return targets[str(name)]


def hardware(target: Target) -> dict[str, Any]:
    """What a measurement on ``target`` hangs on, as the keys hold it."""
    told: dict[str, Any] = {"cpu": target.machine.cpu, "flags": list(target.machine.flags)}
    return {**told, "driver": target.gpu.driver} if target.gpu else told
