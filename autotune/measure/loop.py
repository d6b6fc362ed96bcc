"""The closed loop: one request after the other, timed honestly (measurement.md, section 2)."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.measure import statistics

Call = Callable[[int], object]
Samples = NDArray[np.int64]

LEAST_OVERHEADS = 20
"""A latency below so many readings of the clock is timed in groups of calls."""
AGREEMENT = 0.02
"""Warm-up ends when the medians of two consecutive windows differ by no more than this share."""
RACING_CALLS = 30
"""A race is not decided on fewer samples."""
_WINDOW_S = 0.05


@dataclass(frozen=True)
class LoopSettings:
    """How long to measure.

    Attributes:
        warmup_calls: The fewest calls of the warm-up, beside the first call.
        warmup_max_s: The warm-up ends here, stable or not.
        min_calls: The fewest samples.
        min_s: The fewest seconds of samples.
        max_s: No call starts that would end after so many seconds of measuring, but for the first.
        precision: Half the p50's 95 % interval over the p50 at which the samples are enough.
        give_up_above_ms: Stop once the p50 is surely above this; None: never.
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
        gave_up: Whether the race was lost.
        seconds: Wall time of it all.
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
        }


def time_calls(call: Call, *, settings: LoopSettings) -> Timing:
    """Time ``call`` until its p50 is known well enough, or its time is up.

    Args:
        call: Handles request ``i`` and blocks until it is done. ``i`` counts up from 0; the caller
            rotates 16 distinct inputs or more.
        settings: When to stop.
    """
    with _collector_off():
        begin = time.perf_counter_ns()
        overhead = clock_overhead_ns()
        first = int(_block(call, 0, 1, 1, 0)[0])
        typical, done, stable = _warm_up(call, settings)
        group = max(1, math.ceil(LEAST_OVERHEADS * overhead / typical))
        samples, precise, gave_up = _measure(call, 1 + done, typical, group, settings)
        seconds = (time.perf_counter_ns() - begin) / 1e9
    return Timing(samples, first, done, overhead, group, stable, precise, gave_up, seconds)


def clock_overhead_ns() -> int:
    """The median time between two readings of the clock, at least 1 ns."""
    clock = time.perf_counter_ns
    return max(1, round(float(np.median([-(clock() - clock()) for _ in range(1001)]))))


def _warm_up(call: Call, settings: LoopSettings) -> tuple[float, int, bool]:
    """Call until two windows agree: the last one's median in ns, the calls made, if they agree."""
    deadline = time.perf_counter_ns() + round(settings.warmup_max_s * 1e9)
    calls = max(1, math.ceil(settings.warmup_calls / 2))
    before = 0.0
    done = 0
    while True:
        window = _block(call, 1 + done, calls, 1, deadline)
        done += len(window)
        typical = max(1.0, float(np.median(window)))
        complete = len(window) == calls and float(window.sum()) >= _WINDOW_S * 1e9
        if complete and abs(typical - before) <= AGREEMENT * before:
            return typical, done, True
        if time.perf_counter_ns() + typical > deadline:
            return typical, done, False
        before = typical if complete else 0.0
        calls = max(calls, math.ceil(1.2 * _WINDOW_S * 1e9 / typical))


def _measure(
    call: Call, start: int, typical: float, group: int, settings: LoopSettings
) -> tuple[Samples, bool, bool]:
    """Blocks of samples until they decide: the samples, if they are precise, if they lost."""
    begin = time.perf_counter_ns()
    deadline = begin + round(settings.max_s * 1e9)
    wanted = settings.tail_below_ms
    tailed = wanted is not None and typical / 1e6 <= wanted
    if tailed:
        deadline = begin + round(settings.tail_max_s * 1e9)
    blocks: list[Samples] = []
    precise = gave_up = False
    for size in _block_sizes(settings):
        if blocks and typical * group < _WINDOW_S * 1e9:
            call(start)  # not timed: the statistics below left the caches cold
            start += 1
        block = _block(call, start, size, group, deadline)
        blocks.append(block)
        start += len(block) * group
        samples = np.concatenate(blocks)
        precise, gave_up = _decided(samples, settings)
        enough = (
            len(samples) >= settings.min_calls
            and time.perf_counter_ns() - begin >= settings.min_s * 1e9
        )
        now = time.perf_counter_ns()
        spent = len(block) < size or now + typical * group > deadline
        told = not tailed or statistics.quantile(samples / 1e6, 0.99).high is not None
        done = (precise and enough) or now - begin >= settings.max_s * 1e9
        if gave_up or spent or (told and done):
            break
    return samples, precise, gave_up


def _block_sizes(settings: LoopSettings) -> Iterator[int]:
    """Half as many samples again each time, so that looking at them costs little."""
    size = max(1, min(RACING_CALLS, settings.min_calls))
    total = 0
    while True:
        yield size
        total += size
        size = max(size, total // 2)


def _decided(samples: Samples, settings: LoopSettings) -> tuple[bool, bool]:
    p50 = statistics.quantile(samples / 1e6, 0.5)
    if p50.low is None or p50.high is None:
        return False, False
    precise = (p50.high - p50.low) / 2 <= settings.precision * p50.value
    limit = settings.give_up_above_ms
    return precise, limit is not None and len(samples) >= RACING_CALLS and p50.low > limit


def _block(call: Call, start: int, size: int, group: int, deadline: int) -> Samples:
    """Up to ``size`` samples of ``group`` calls: at least one, then while the next ends in time."""
    samples = np.empty(size, dtype=np.int64)
    clock = time.perf_counter_ns
    request = start
    for place in range(size):
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
        samples[place] = max(1, (end - begin) // group)
        if end + (end - begin) > deadline:
            return samples[: place + 1].copy()
    return samples


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
