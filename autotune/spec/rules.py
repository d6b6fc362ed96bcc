"""What removes points of the space: values that can be compared, so that equal specs are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autotune import plugins
from autotune.contracts import Rejection
from autotune.space import Condition, Is, Settings
from autotune.target import Target
from autotune.task import ModelSource


@dataclass(frozen=True)
class ThreadsFit:
    """Threads beyond the cores of the lane are removed."""

    targets: tuple[Target, ...]

    def __call__(self, settings: Settings) -> str | None:
        target, threads = _target(self.targets, settings), settings["threads"]
        if int(threads) <= target.lane_cores:
            return None
        cores = "1 core" if target.lane_cores == 1 else f"{target.lane_cores} cores"
        return f"{threads} threads are more than the {cores} of a lane of target '{target.name}'"


@dataclass(frozen=True)
class BackendThere:
    """A backend that cannot be used here is removed with its own sentence."""

    name: str
    reason: str

    def __call__(self, settings: Settings) -> str | None:
        return self.reason if settings["backend"] == self.name else None


@dataclass(frozen=True)
class PluginTakes:
    """What a backend or a technique rejects is removed, where it is active (``when``)."""

    kind: Literal["backends", "techniques"]
    name: str
    when: Condition
    targets: tuple[Target, ...]
    model: ModelSource

    def __call__(self, settings: Settings) -> str | None:
        if not self.when.holds(settings):
            return None
        rejection = self._reject(settings)
        return rejection.reason if rejection else None

    def _reject(self, settings: Settings) -> Rejection | None:
        target = _target(self.targets, settings)
        if self.kind == "backends":
            return plugins.load("backends", self.name).reject(settings, target, self.model)
        return plugins.load("techniques", self.name).reject(settings, target, self.model)


def backend(name: str, targets: tuple[Target, ...], model: ModelSource) -> PluginTakes:
    """The rule of a backend: active where it is the one chosen."""
    return PluginTakes("backends", name, Is("backend", (name,)), targets, model)


def technique(
    name: str, when: Condition, targets: tuple[Target, ...], model: ModelSource
) -> PluginTakes:
    """The rule of a technique: active where its stage exists."""
    return PluginTakes("techniques", name, when, targets, model)


def _target(targets: tuple[Target, ...], settings: Settings) -> Target:
    name = settings.get("target", targets[0].name)
    return next(target for target in targets if target.name == name)
