"""The techniques of a configuration turned into stages: the network that backends start from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autotune import plugins
from autotune.artifact import Stage
from autotune.contracts import Technique
from autotune.engine.subject import Subject
from autotune.space import Configuration, Scalar
from autotune.task import ModelSource

Machine = Mapping[str, Any]
"""What decides how fast a machine is, as JSON values."""


def network(configuration: Configuration, subject: Subject, machine: Machine) -> Stage:
    """The given model with every active technique applied, in the order of their positions."""
    made = subject.source
    for name, technique in active(configuration, subject.model):
        made = _applied(name, technique, configuration, subject, machine, made)
    return made


def _applied(
    name: str,
    technique: Technique,
    configuration: Configuration,
    subject: Subject,
    machine: Machine,
    network: Stage,
) -> Stage:
    inputs = [network]
    if technique.needs_data:
        inputs.append(subject.data)
    if technique.needs_teacher:
        inputs.append(_logits(subject))
    settings = settings_of(technique, configuration, subject.model, technique.sections)
    parameters = {"technique": name, "settings": settings, "seed": subject.seed}
    clocked = {"machine": machine} if technique.measures(settings) else {}
    made = _technique(name, technique, {**parameters, **clocked}, inputs)
    return replace(made, hints={_TRAINS: True}) if technique.trains(settings) else made


_TRAINS = "trains"


def trains(stage: Stage) -> bool:
    """Whether the stage runs the training loop."""
    return bool(stage.hints.get(_TRAINS))


def structure(configuration: Configuration, subject: Subject, machine: Machine) -> Stage | None:
    """The same shapes with nothing trained; None where nothing would be, or shapes hang on it.

    Where they hang on the weights as given, or on a clock, the network itself is taken: made twice
    it could come out twice.
    """
    network = made = subject.source
    trained = False
    for name, technique in active(configuration, subject.model):
        settings = settings_of(technique, configuration, subject.model, technique.sections)
        shapes = technique.shapes(settings)
        trained = trained or technique.trains(settings)
        if shapes is None and trained:
            return None
        made = _applied(name, technique, configuration, subject, machine, made)
        if shapes is None:
            network = made
        elif shapes:
            inputs = [network, subject.data] if technique.needs_data else [network]
            parameters = {
                "technique": name,
                "settings": settings_of(technique, configuration, subject.model, shapes),
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


def active(configuration: Configuration, model: ModelSource) -> list[tuple[str, Technique]]:
    """The active techniques in their order."""
    if not model.trainable:
        return []
    loaded = [(name, plugins.load("techniques", name)) for name in plugins.names("techniques")]
    found = [pair for pair in loaded if _active(pair[1], configuration, model)]
    return sorted(found, key=lambda pair: pair[1].position)


def _active(technique: Technique, configuration: Configuration, model: ModelSource) -> bool:
    present = any(name.split(".")[0] in technique.sections for name in configuration)
    if not present:
        return False
    own = settings_of(technique, configuration, model, technique.sections)
    return technique.when(model).holds({**configuration, **own})


def settings_of(
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
