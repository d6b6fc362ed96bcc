"""Blocks of samples, and what went on beside each (measurement.md, section 4: drift)."""

from __future__ import annotations

import gc
import math
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.measure.memory import rss_bytes
from autotune.measure.reference import Disturbance, Watch

Call = Callable[[int], object]
Samples = NDArray[np.int64]

LEAST_OVERHEADS = 20
"""A latency below so many readings of the clock is timed in groups of calls."""

LEAST_CALM = 0.25
"""Where a smaller share of the blocks was undisturbed, what else ran may only have been missed."""


@dataclass(frozen=True, eq=False)
class Block:
    """Samples in a row.

    Attributes:
        samples: Latencies in ns, shape (n,).
        beside: What went on beside them; None where nobody watched.
        again: Whether it was disturbed and its time given back, to take it again.
        rss_bytes: The process's resident memory after it; 0 where nobody watched.
    """

    samples: Samples
    beside: Disturbance | None = None
    again: bool = False
    rss_bytes: int = 0

    @property
    def disturbed(self) -> bool:
        return self.beside is not None and self.beside.counts


def watched(
    call: Call,
    start: int,
    size: int,
    group: int,
    deadline: int,
    watch: Watch | None,
    before: float,
) -> tuple[Block, float]:
    """A block with what went on beside it, and the reference's time in ms after it.

    It has up to ``size`` samples, as ``take`` takes them; without a ``watch`` nobody looks.
    ``before`` is the reference's time in ms before it.
    """
    if watch is None:
        return Block(take(call, start, size, group, deadline)), 0.0
    mark = watch.mark(before)
    samples = take(call, start, size, group, deadline)
    beside = watch.beside(mark)
    return Block(samples, beside, rss_bytes=rss_bytes()), beside.after_ms


def take(call: Call, start: int, size: int, group: int, deadline: float) -> Samples:
    """Up to ``size`` samples of ``group`` calls: at least one, then while the next ends in time."""
    spans = array("q")  # all other arithmetic comes afterwards: it would stand between the calls
    clock = time.perf_counter_ns
    request = start
    for _ in range(size):
        if group == 1:
            begin = clock()
            call(request)
            end = clock()
        else:
            begin = clock()
            for index in range(request, request + group):
                call(index)
            end = clock()
        request += group
        span = end - begin
        spans.append(span)
        if end + span > deadline:
            break
    return np.maximum(1, np.array(spans, dtype=np.int64) // group)


def clean(blocks: Sequence[Block]) -> Samples:
    """The samples of the undisturbed blocks, in their order."""
    found = [block.samples for block in blocks if not block.disturbed]
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def usable(blocks: Sequence[Block], enough: int) -> tuple[Samples, bool]:
    """The samples that count, and whether they are noisy.

    The undisturbed ones count, where there are ``enough`` of them, or they are half of all; and
    where their blocks are not so few that they may be called undisturbed by chance.
    """
    calm = clean(blocks)
    everything = np.concatenate([block.samples for block in blocks])
    by_chance = sum(not block.disturbed for block in blocks) < LEAST_CALM * len(blocks)
    if len(calm) >= min(enough, math.ceil(len(everything) / 2)) and not by_chance:
        return calm, False
    return everything, True


def facts(blocks: Sequence[Block], *, noisy: bool) -> Mapping[str, Any]:
    """What the watch saw, as JSON values: of the blocks whose samples count."""
    seen = [b.beside for b in blocks if b.beside is not None]
    if not seen:
        return {}
    kept = seen if noisy else [beside for beside in seen if not beside.counts]
    waited = [beside.waited for beside in kept if beside.waited is not None]
    return {
        "blocks": len(seen),
        "disturbed_blocks": sum(beside.counts for beside in seen),
        "retries": sum(block.again for block in blocks),
        "reference_ms": float(np.median([beside.reference_ms for beside in kept])),
        "reference_ratio": float(np.median([beside.reference for beside in kept])),
        "run_queue_share": float(np.mean(waited)) if waited else None,
    }


def clock_overhead_ns() -> int:
    """The median time between two readings of the clock, at least 1 ns.

    Where it is too coarse to tell that, one of its ticks, below which it tells nothing.
    """
    clock = time.perf_counter_ns
    typical = round(float(np.median([-(clock() - clock()) for _ in range(1001)])))
    return typical if typical > 0 else _tick_ns()


def _tick_ns() -> int:
    """The smallest step of the clock: a larger one was seen by a process that was not running."""
    clock = time.perf_counter_ns
    edges = [clock()]
    while len(edges) < _EDGES:
        now = clock()
        if now != edges[-1]:
            edges.append(now)
    return int(np.diff(edges[1:]).min())


_EDGES = 10


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage is collected meanwhile; afterwards it is as before."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
