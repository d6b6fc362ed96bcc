"""In which state the machine is: what may make the same work take longer at another time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_CPUFREQ = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
_IDLE = (3, 4)
_STEAL = 7
"""Places in a row of it: idle, waiting for a disk; given to others by the host."""


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


def busy_beside(cores: Sequence[int]) -> Callable[[], float | None]:
    """What tells which share of its time the rest of the machine's cores were busy from now on.

    0 where there is no other core; None where the kernel does not tell.
    """
    before = _busy(cores)

    def told() -> float | None:
        after = _busy(cores)
        return 0.0 if before == after == (0, 0) else _share(before, after)

    return told


def _share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def _ticks(cores: Sequence[int]) -> tuple[int, int] | None:
    """Ticks stolen from the cores, and all their ticks, since the machine started."""
    names = {f"cpu{core}" for core in cores}
    told = [ticks for name, ticks in _counted() if name in names]
    total = sum(map(sum, told))
    return (sum(ticks[_STEAL] for ticks in told), total) if total else None


def _busy(cores: Sequence[int]) -> tuple[int, int] | None:
    """Ticks in which the machine's other cores worked, and all their ticks."""
    names = {"cpu", *(f"cpu{core}" for core in cores)}
    known = _counted()
    told = [ticks for name, ticks in known if name not in names]
    idle = sum(ticks[place] for ticks in told for place in _IDLE)
    total = sum(map(sum, told))
    return (total - idle, total) if known else None


def _counted() -> list[tuple[str, list[int]]]:
    """The ticks of each core, and of all (``cpu``); nothing where the kernel does not tell them."""
    found = []
    with suppress(OSError):
        for line in _STAT.read_text().splitlines():
            name, *ticks = line.split()
            with suppress(ValueError, IndexError):
                counted = [int(ticks[i]) for i in range(_STEAL + 1)]  # guests' are in the user's
                if name.startswith("cpu"):
                    found.append((name, counted))
    return found
