"""What removes points of the space: values that can be compared, so that equal specs are equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from autotune import plugins
from autotune.contracts import Rejection
from autotune.errors import MachineError
from autotune.space import Condition, Is, Rule, Settings
from autotune.spec.values import Spec
from autotune.target import Machine, Target
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
class OnDevice:
    """The device is the one that the target has."""

    targets: tuple[Target, ...]

    def __call__(self, settings: Settings) -> str | None:
        target = _target(self.targets, settings)
        if settings["device"] == target.device:
            return None
        return f"target '{target.name}' runs models on {target.device}, not {settings['device']}"


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


def on_machines(spec: Spec, machines: Mapping[str, Machine]) -> Spec:
    """``spec`` with the machine found behind each target's name, in its rules too.

    Raises:
        MachineError: A machine has fewer cores than its target's lanes ask for.
    """
    targets = tuple(replace(t, machine=machines[t.name]) for t in spec.targets)
    for target in targets:
        if target.lane_cores > len(target.machine.cores):
            raise MachineError(
                f"a lane of target '{target.name}' asks for {target.lane_cores} cores, "
                f"its machine offers {len(target.machine.cores)}",
                remedy=f"lower targets.{target.name}.lane_cores",
            )
    rules = tuple(_retargeted(rule, targets) for rule in spec.space.rules)
    return replace(spec, targets=targets, space=replace(spec.space, rules=rules))


def _retargeted(rule: Rule, targets: tuple[Target, ...]) -> Rule:
    if isinstance(rule, ThreadsFit | OnDevice | PluginTakes):
        return replace(rule, targets=targets)
    return rule


def devices(targets: tuple[Target, ...]) -> tuple[OnDevice, ...]:
    """The rule of the device, where a target has a GPU."""
    return (OnDevice(targets),) if any(target.gpu is not None for target in targets) else ()


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
