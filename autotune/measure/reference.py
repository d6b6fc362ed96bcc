"""A fixed piece of work, whose time tells how fast the machine is just now (measurement.md, 4).

Two things can spoil a latency. Others may have the core: then threads wait on its run queue, which
the kernel counts. Or they may have what cores share (caches, memory, the power that clocks hang
on): then everything is slower, and so is this work, whose undisturbed time is known.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEVIATION = 0.08
"""The work may take so much longer than undisturbed, as a share; a mean of so few moves by some
percent with the host's interrupts, which are always there."""
WAITED = 0.03
"""Threads may have waited for a core for such a share of the time."""
KEPT_S = 3600.0
"""What was known of the machine's speed longer ago than this is forgotten."""
_KEPT = 100
_KNOWN_FROM = 3
_REPEATS = 7
_PROBE_S = 0.3


@dataclass(frozen=True)
class Disturbance:
    """What went on beside a block of samples.

    Attributes:
        before_ms, after_ms: The reference's time before and after the block.
        undisturbed_ms: What it takes where nothing disturbs it.
        waited: Time that threads of this process were ready to run and did not, over the block's;
            None where the kernel does not tell it.
    """

    before_ms: float
    after_ms: float
    undisturbed_ms: float
    waited: float | None

    @property
    def reference_ms(self) -> float:
        """The reference's time around the block."""
        return (self.before_ms + self.after_ms) / 2

    @property
    def reference(self) -> float:
        """The same over its undisturbed time."""
        return self.reference_ms / self.undisturbed_ms

    @property
    def counts(self) -> bool:
        """Whether the block is to be taken again."""
        return self.reference > 1 + DEVIATION or (self.waited or 0.0) > WAITED


def waited_ns() -> int | None:
    """How long threads of this process have waited for a core so far (proc(5), schedstat).

    Returns:
        Nanoseconds, summed over the threads that live; None where the kernel does not tell.
    """
    total, told = 0, False
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError, ValueError, IndexError):  # it has ended just now
                total += int((thread / "schedstat").read_text().split()[1])
                told = True
    return total if told else None


def work() -> int:
    """The work: passes over a quarter of a megabyte, integer steps over 32 kB; always the same."""
    one, two, out, state, shifted = _arrays()
    for _ in range(40):
        np.multiply(one, two, out=out)
        np.add(out, one, out=out)
    state[:] = _SEEDS
    for _ in range(16):
        for shift, by in _STEPS:
            shift(state, by, out=shifted)
            np.bitwise_xor(state, shifted, out=state)
    return int(state[-1])


def burst() -> float:
    """The work's time in ms: the mean of a few; two before them find the caches cold.

    The mean, because who shares a core's units comes and goes within milliseconds.
    """
    times = [_timed() for _ in range(2 + _REPEATS)]
    return float(np.mean(times[2:]))


def probe(seconds: float = _PROBE_S) -> float:
    """The work's undisturbed time in ms, as far as can be told now: bursts' lower quartile."""
    end = time.perf_counter() + seconds
    bursts = [burst()]
    while time.perf_counter() < end:
        bursts.append(burst())
    return float(np.quantile(bursts, 0.25))


def times(seconds: float) -> NDArray[np.float64]:
    """The work's times in ms, one after the other for so long."""
    work()  # finds the caches cold
    end = time.perf_counter() + seconds
    found = [_timed()]
    while time.perf_counter() < end:
        found.append(_timed())
    return np.array(found)


@dataclass(frozen=True)
class Mark:
    """Where a block begins.

    Attributes:
        before_ms: The reference's time before it.
        waited: How long threads had waited for a core by then, in ns; None where unknown.
        began_ns: By ``time.perf_counter_ns``.
    """

    before_ms: float
    waited: int | None
    began_ns: int


@dataclass(frozen=True)
class Watch:
    """Looks at the machine before and after a block of samples.

    Attributes:
        undisturbed_ms: What the reference takes where nothing disturbs it.
        burst: The reference's time in ms, now.
        waited: How long threads have waited for a core so far, in ns; None where unknown.
    """

    undisturbed_ms: float
    burst: Callable[[], float] = burst
    waited: Callable[[], int | None] = waited_ns

    def mark(self, before_ms: float) -> Mark:
        """A block begins; ``before_ms`` is the reference's time before it."""
        return Mark(before_ms, self.waited(), time.perf_counter_ns())

    def beside(self, mark: Mark, look: Callable[[], float] | None = None) -> Disturbance:
        """What went on beside the block that has ended; ``look`` is the burst unless told."""
        end, waited = time.perf_counter_ns(), self.waited()
        share = None
        if mark.waited is not None and waited is not None:
            share = max(0.0, (waited - mark.waited) / max(1, end - mark.began_ns))
        return Disturbance(mark.before_ms, (look or self.burst)(), self.undisturbed_ms, share)

    def look(self) -> float:
        """The reference's time now in ms; a burst that is too slow is taken a second time.

        For what is long, and dear to be taken again.
        """
        first = self.burst()
        if first <= self.undisturbed_ms * (1 + DEVIATION):
            return first
        return min(first, self.burst())


def watch(path: Path | None = None) -> Watch:
    """A watch that knows the undisturbed time: from earlier measurements, else by a probe.

    Args:
        path: What measurements on these cores keep of it; None: nothing is kept.
    """
    known = _recent(path) if path is not None else []
    if len(known) < _KNOWN_FROM:
        fresh = probe()
        return Watch(min([fresh, *(ms for _, ms in known)]))
    return Watch(float(np.quantile([ms for _, ms in known], 0.25)))


def remember(path: Path, bursts_ms: Sequence[float]) -> None:
    """Keep how fast the machine was in one measurement: its bursts' lower quartile.

    What cannot be written is not kept: the next measurement probes.
    """
    if not bursts_ms:
        return
    entry = [time.time(), float(np.quantile(bursts_ms, 0.25))]
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fresh.write_text(json.dumps([*_recent(path), entry][-_KEPT:]))
        fresh.replace(path)


def _recent(path: Path) -> list[list[float]]:
    """The moments (s) and the times (ms) kept, of the last hour; none where it cannot be read."""
    now = time.time()
    try:
        kept: Any = json.loads(path.read_text())
        return [[at, ms] for at, ms in kept if 0 <= now - at <= KEPT_S and ms > 0]
    except (OSError, ValueError, TypeError):
        return []


_SEEDS = np.arange(1, 4097, dtype=np.uint64)
_STEPS = (
    (np.left_shift, np.uint64(13)),
    (np.right_shift, np.uint64(7)),
    (np.left_shift, np.uint64(17)),
)
"""One step of Marsaglia's xorshift generator (2003)."""


@cache
def _arrays() -> tuple[NDArray[Any], ...]:
    """Rows of one buffer from a page's start on: how they lie decides how long the work takes."""
    size, gap, page = 16384, 80, 4096
    room = np.zeros(3 * (size + gap) + 4 * 4096 + page, dtype=np.float32)
    start = (-room.ctypes.data % page) // room.itemsize
    rows = [room[start + i * (size + gap) :][:size] for i in range(3)]
    rows[0][:] = np.linspace(0.5, 1.5, size)
    rows[1][:] = rows[0][::-1]
    rest = room[start + 3 * (size + gap) :][: 4 * 4096].view(np.uint64)
    return (*rows, rest[:4096], rest[4096:])


def _timed() -> float:
    begin = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - begin) / 1e6
