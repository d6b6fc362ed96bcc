"""What this machine and this installation can do, one finding after the other as they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from autotune import hardware, plugins
from autotune.engine.noise import Noise, noise
from autotune.engine.probing import Probe, probe
from autotune.errors import UserError
from autotune.hardware import Condition, gpus
from autotune.plugins import Kind
from autotune.target import Gpu, Machine, Target


@dataclass(frozen=True)
class Here:
    """The machine as it is looked at, nothing run.

    Attributes:
        machine: The processor, its flags, the cores that this process may use, the memory.
        instruction_sets: Whether it has each of those that decide how fast inference is.
        lane: The cores of a lane, where the space file does not say it.
        preparing: The cores for training and converting then.
        shared: Whether measuring and preparing take turns.
        gpus: The accelerators.
        no_gpu: Why there is none; "" where there is one.
        condition: The state that the kernel tells.
    """

    machine: Machine
    instruction_sets: dict[str, bool]
    lane: tuple[int, ...]
    preparing: tuple[int, ...]
    shared: bool
    gpus: tuple[Gpu, ...]
    no_gpu: str
    condition: Condition


@dataclass(frozen=True)
class Plugin:
    """A plug-in as it declares itself; ``unavailable`` says why it cannot be used here, or ""."""

    kind: Kind
    name: str
    summary: str
    unavailable: str = ""
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Missed:
    """A part of the examination that could not be had, and why."""

    part: str
    reason: str


_KINDS: tuple[Kind, ...] = ("techniques", "samplers", "metrics", "backends")
Finding = Here | Noise | Plugin | Probe | Missed


def examine(*, quick: bool, tell: Callable[[str], None] = lambda _: None) -> Iterator[Finding]:
    """Look at the machine, its noise, the plug-ins, and what each backend runs.

    Args:
        quick: Nothing is run: neither the noise nor the precisions are found out.
        tell: Is told what is waited for.
    """
    machine = hardware.machine()
    target = Target("local", hardware.usual_lane(machine), 1, None, machine)
    yield _here(target)
    if not quick:
        tell("timing the reference's work")
        yield from _or_why("noise", lambda: iter([noise(target, tell=tell)]))
    for kind in _KINDS:
        yield from (_plugin(kind, name) for name in plugins.names(kind))
    if not quick:
        tell("probing the backends")
        yield from _or_why("precisions", lambda: probe(target))


def _or_why(part: str, find: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from find()
    except UserError as error:
        yield Missed(part, str(error))


def _here(target: Target) -> Here:
    found = gpus.accelerators() if gpus.driver() else gpus.Accelerators((), "no NVIDIA driver")
    return Here(
        target.machine,
        hardware.instruction_sets(target.machine),
        target.lane(0),
        target.preparing,
        target.shared,
        found.gpus,
        found.missing,
        hardware.condition(target.machine.cores),
    )


def _plugin(kind: Kind, name: str) -> Plugin:
    if kind != "backends":
        return Plugin(kind, name, plugins.load(kind, name).summary)
    backend = plugins.load("backends", name)
    versions = tuple(plugins.version(library) for library in backend.libraries)
    return Plugin(kind, name, backend.summary, backend.unavailable() or "", versions)
