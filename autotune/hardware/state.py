"""In which state the machine is: what may make the same work take longer at another time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_CPUFREQ = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
_STEAL = 7


@dataclass(frozen=True)
class Condition:
    """What the kernel tells; None where it does not.

    Attributes:
        governors: What decides the clock of each core, each word once; empty where unknown.
        load: Threads that ran or wanted to, on average over the last minute.
        steal: The share of the cores' time since the machine started that its host gave to others.
    """

    governors: tuple[str, ...]
    load: float | None
    steal: float | None


def condition(cores: Sequence[int]) -> Condition:
    """The state of these cores, and the load of the whole machine."""
    words = set()
    for core in cores:
        with suppress(OSError):  # a virtual machine seldom has one
            words.add(Path(_CPUFREQ.format(core)).read_text().strip())
    load = None
    with suppress(OSError):
        load = os.getloadavg()[0]
    return Condition(tuple(sorted(words)), load, _share((0, 0), _ticks(cores)))


def steal(cores: Sequence[int]) -> Callable[[], float | None]:
    """What tells the share of the cores' time that the host of this machine stole from now on.

    Of a virtual machine; None where the kernel does not tell (proc(5), /proc/stat).
    """
    before = _ticks(cores)
    return lambda: _share(before, _ticks(cores))


def _share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def _ticks(cores: Sequence[int]) -> tuple[int, int] | None:
    """Ticks stolen from the cores, and all their ticks, since the machine started."""
    names = {f"cpu{core}" for core in cores}
    stolen = total = 0
    with suppress(OSError, ValueError, IndexError):
        for line in _STAT.read_text().splitlines():
            name, *ticks = line.split()
            if name in names:
                counted = [int(tick) for tick in ticks[: _STEAL + 1]]  # guests' are in the user's
                stolen += counted[_STEAL]
                total += sum(counted)
        return (stolen, total) if total else None
    return None
