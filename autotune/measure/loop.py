"""The closed loop: one request after the other, timed honestly (measurement.md, section 2)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autotune.measure import statistics
from autotune.measure.blocks import (
    LEAST_OVERHEADS,
    Block,
    Call,
    Samples,
    clean,
    clock_overhead_ns,
    collector_off,
    facts,
    take,
    usable,
    watched,
)
from autotune.measure.clock import fine_enough
from autotune.measure.reference import Watch

AGREEMENT = 0.02
"""Warm-up ends when the medians of two consecutive windows differ by no more than this share."""
RACING_CALLS = 30
"""A race is not decided on fewer samples."""
CLEARLY = 1.1
"""A race is lost before the warm-up has ended where the p50 is surely above so many limits."""
BLOCK_S = 0.05
"""No block of samples lasts much longer, so that what comes and goes is seen beside one of them."""
_FEWEST = 5
"""A block has so many samples where a call before it is not timed, which is then a sixth of it."""
_WINDOW_S = 0.05
_GLANCE_S = 0.04
_MOST = 100_000
_MORE = 1.1
"""The samples are looked at when there are so many times as many: looking takes a while."""


@dataclass(frozen=True)
class LoopSettings:
    """How long to measure.

    Attributes:
        warmup_calls: The fewest calls of the warm-up, beside the first call.
        warmup_max_s: The warm-up ends here, stable or not.
        min_calls: The fewest samples.
        min_s: The fewest seconds of samples.
        max_s: No call starts that would end after so many seconds of measuring, but for the first.
            What disturbed blocks took does not count, up to as many seconds again.
        precision: Half the p50's 95 % interval over the p50 at which the samples are enough.
        give_up_above_ms: Stop once the p50 is surely above this; None: never.
        tail_below_ms: A median not above it is measured on until the p99 has an upper bound, for
            ``tail_max_s`` at most; None: the p99 is what it is.
        tail_max_s: See there.
        tail_precision: The p99's interval, its half over its value, at which it is told; None: any.
    """

    warmup_calls: int = 10
    warmup_max_s: float = 2.0
    min_calls: int = 50
    min_s: float = 0.25
    max_s: float = 3.0
    precision: float = 0.01
    give_up_above_ms: float | None = None
    tail_below_ms: float | None = None
    tail_max_s: float = 10.0
    tail_precision: float | None = None


@dataclass(frozen=True, eq=False)
class Timing:
    """What the loop saw.

    Attributes:
        samples_ns: Latency of one call, in order, shape (n,); a mean of ``group`` calls each.
        first_call_ns: The very first call, which users pay at start-up.
        warmup_calls: Calls after the first and before the samples.
        clock_overhead_ns: What reading the clock twice costs by itself.
        group: Calls behind one sample; above 1 the percentiles are those of means.
        stable: Whether the warm-up ended by agreement, not by its cap.
        precise: Whether the p50's interval is as narrow as was asked for.
        gave_up: Whether the race was lost, as the undisturbed samples tell.
        seconds: Wall time of it all.
        blocks: Every block taken, those that were taken again included.
        noisy: Whether the samples are of disturbed blocks, because too few others could be had.
    """

    samples_ns: Samples
    first_call_ns: int
    warmup_calls: int
    clock_overhead_ns: int
    group: int
    stable: bool
    precise: bool
    gave_up: bool
    seconds: float
    blocks: tuple[Block, ...] = ()
    noisy: bool = False

    def facts(self) -> Mapping[str, Any]:
        """All but the samples, as JSON values."""
        return {
            "first_call_ms": self.first_call_ns / 1e6,
            "warmup_calls": self.warmup_calls,
            "samples": len(self.samples_ns),
            "clock_overhead_ns": self.clock_overhead_ns,
            "calls_per_sample": self.group,
            "stable": self.stable,
            "precise": self.precise,
            "gave_up": self.gave_up,
            "measuring_seconds": self.seconds,
            "noisy": self.noisy,
            **facts(self.blocks, noisy=self.noisy),
        }


def time_calls(call: Call, *, settings: LoopSettings, watch: Watch | None = None) -> Timing:
    """Time ``call`` until its p50 is known well enough, or its time is up.

    Args:
        call: Handles request ``i`` and blocks until it is done. ``i`` counts up from 0; the caller
            rotates 16 distinct inputs or more.
        settings: When to stop.
        watch: Tells disturbed blocks, which are taken again; None: no block is looked at.

    Raises:
        MachineError: The clock is too coarse.
    """
    with collector_off():
        begin = time.perf_counter_ns()
        overhead = fine_enough(clock_overhead_ns())
        first = int(take(call, 0, 1, 1, 0)[0])
        lost, done = _race(call, settings, watch)
        typical, more, stable = (1.0, 0, False) if lost else _warm_up(call, 1 + done, settings)
        done += more
        group = max(1, math.ceil(LEAST_OVERHEADS * overhead / typical)) if not lost else 1
        blocks = lost or _measure(call, 1 + done, typical, group, settings, watch)
        seconds = (time.perf_counter_ns() - begin) / 1e9
    samples, noisy = usable(blocks, settings.min_calls)
    precise, _ = _decided(samples, settings)
    return Timing(
        samples,
        first,
        done,
        overhead,
        group,
        stable,
        precise,
        bool(lost) or _decided(clean(blocks), settings)[1],
        seconds,
        blocks,
        noisy,
    )


def _warm_up(call: Call, start: int, settings: LoopSettings) -> tuple[float, int, bool]:
    """Call until two windows agree: the last one's median in ns, the calls made, if they agree."""
    deadline = time.perf_counter_ns() + round(settings.warmup_max_s * 1e9)
    calls = max(1, math.ceil(settings.warmup_calls / 2))
    before = 0.0
    done = 0
    while True:
        window = take(call, start + done, calls, 1, deadline)
        done += len(window)
        typical = float(np.median(window))
        typical = typical if typical > 1 else float(window.mean())  # below a coarse clock's tick
        complete = len(window) == calls and float(window.sum()) >= _WINDOW_S * 1e9
        if complete and abs(typical - before) <= AGREEMENT * before:
            return typical, done, True
        if time.perf_counter_ns() + typical > deadline:
            return typical, done, False
        before = typical if complete else 0.0
        calls = max(calls, math.ceil(1.2 * _WINDOW_S * 1e9 / typical))


def _race(call: Call, settings: LoopSettings, watch: Watch | None) -> tuple[tuple[Block, ...], int]:
    """A race that is clearly lost after 50 ms of warm-up and 30 calls: its block, if it is.

    Returns:
        The block, or nothing where the race is open; and the calls made.
    """
    limit = settings.give_up_above_ms
    if limit is None:
        return (), 0
    begin = time.perf_counter_ns()
    warm = take(call, 1, _MOST, 1, begin + round(_GLANCE_S * 1e9))
    if float(np.median(warm)) * RACING_CALLS > settings.max_s * 1e9:
        return (), len(warm)
    before = watch.burst() if watch else 0.0
    forever = begin + round(1e9 * (settings.warmup_max_s + settings.max_s))
    block, _ = watched(call, 1 + len(warm), RACING_CALLS, 1, forever, watch, before)
    done = len(warm) + len(block.samples)
    p50 = statistics.quantile(block.samples / 1e6, 0.5)
    surely = p50.low is not None and p50.low > CLEARLY * limit
    lost = surely and len(block.samples) >= RACING_CALLS and not block.disturbed
    return ((block,) if lost else ()), done


def _measure(
    call: Call,
    start: int,
    typical: float,
    group: int,
    settings: LoopSettings,
    watch: Watch | None,
) -> tuple[Block, ...]:
    """Blocks of samples until they decide; time lost to disturbed ones is given back, for a while.

    ``start`` is the first request, ``typical`` what a call takes, in ns.
    """
    wanted = settings.tail_below_ms
    tailed = wanted is not None and typical / 1e6 <= wanted
    limit_ns = round((settings.tail_max_s if tailed else settings.max_s) * 1e9)
    begin = time.perf_counter_ns()
    lost_ns = 0
    blocks: list[Block] = []
    due = 0.0
    before = watch.burst() if watch else 0.0
    while True:
        opened = time.perf_counter_ns()
        size = _size(blocks, typical * group, settings)
        if (blocks or watch) and typical * group < _WINDOW_S * 1e9:
            call(start)  # not timed: what went on before left the caches cold
            start += 1
        end = begin + limit_ns + lost_ns
        block, before = watched(call, start, size, group, end, watch, before)
        start += len(block.samples) * group
        now = time.perf_counter_ns()
        again = block.disturbed and lost_ns + now - opened <= settings.max_s * 1e9
        blocks.append(replace(block, again=again))
        lost_ns += now - opened if again else 0
        spent_ns = now - begin - lost_ns
        cut = len(block.samples) < size and not again
        if cut or spent_ns + typical * group > limit_ns:
            return tuple(blocks)
        calm = sum(len(block.samples) for block in blocks if not block.disturbed)
        if calm >= due:
            due = _MORE * calm
            if _done(blocks, spent_ns, tailed, settings):
                return tuple(blocks)


def _done(blocks: Sequence[Block], spent_ns: int, tailed: bool, settings: LoopSettings) -> bool:
    """Whether the undisturbed samples decide, after so much time spent on them."""
    calm = clean(blocks)
    if not len(calm):
        return False
    precise, gave_up = _decided(calm, settings)
    enough = len(calm) >= settings.min_calls and spent_ns >= settings.min_s * 1e9
    told = not tailed or _told(calm, settings.tail_precision)
    return gave_up or (told and ((precise and enough) or spent_ns >= settings.max_s * 1e9))


def _told(samples: Samples, precision: float | None) -> bool:
    """Whether the p99 has an upper bound, and an interval as narrow as is asked for."""
    p99 = statistics.quantile(samples / 1e6, 0.99)
    if p99.low is None or p99.high is None:
        return False
    return precision is None or (p99.high - p99.low) / 2 <= precision * p99.value


def _size(blocks: Sequence[Block], typical_ns: float, settings: LoopSettings) -> int:
    """Samples of the next block: half as many as there are, so that looking costs little."""
    there = sum(len(block.samples) for block in blocks if not block.disturbed)
    least = max(1, min(RACING_CALLS, settings.min_calls))
    most = math.ceil(BLOCK_S * 1e9 / typical_ns)
    few = _FEWEST if typical_ns < _WINDOW_S * 1e9 else 1
    return min(max(least, there // 2), max(few, most))


def _decided(samples: Samples, settings: LoopSettings) -> tuple[bool, bool]:
    """Whether the samples tell the p50 precisely enough, and that it is above the limit."""
    if not len(samples):
        return False, False
    p50 = statistics.quantile(samples / 1e6, 0.5)
    if p50.low is None or p50.high is None:
        return False, False
    precise = (p50.high - p50.low) / 2 <= settings.precision * p50.value
    limit = settings.give_up_above_ms
    return precise, limit is not None and len(samples) >= RACING_CALLS and p50.low > limit
