"""The Offline scenario: as fast as it goes, one batch after the other (section 3)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.measure import statistics
from autotune.measure.blocks import collector_off
from autotune.measure.loop import AGREEMENT
from autotune.trial import Estimate

Call = Callable[[int], object]
Now = Callable[[], int]
Times = NDArray[np.int64]

_WINDOW_NS = 50_000_000
_LEAST_BLOCK = 20


@dataclass(frozen=True)
class OfflineSettings:
    """How long to measure.

    Attributes:
        warmup_max_s: The warm-up ends here, stable or not.
        min_s: The fewest seconds of samples.
        max_s: No block of batches starts after so many seconds of measuring.
        precision: Half the 95 % interval over the rate at which the samples are enough.
    """

    warmup_max_s: float = 2.0
    min_s: float = 0.25
    max_s: float = 5.0
    precision: float = 0.01


@dataclass(frozen=True, eq=False)
class OfflineRun:
    """What the run saw.

    Attributes:
        intervals_ns: From one batch's answer to the next one's, in order, shape (n,): all that
            happens in between is in it.
        batch: Times in a batch.
        throughput_per_s: Times per second; its interval by batch means.
        stable: Whether the warm-up ended by agreement, not by its cap.
        precise: Whether the interval is as narrow as was asked for.
        seconds: Wall time of it all.
    """

    intervals_ns: Times
    batch: int
    throughput_per_s: Estimate
    stable: bool
    precise: bool
    seconds: float

    def facts(self) -> Mapping[str, Any]:
        """All but the samples, as JSON values."""
        return {
            "batch": self.batch,
            "batches": len(self.intervals_ns),
            "stable": self.stable,
            "precise": self.precise,
            "offline_seconds": self.seconds,
        }


def flood(
    call: Call,
    batch: int,
    settings: OfflineSettings | None = None,
    now: Now = time.perf_counter_ns,
) -> OfflineRun:
    """Times per second where the next batch is there as soon as the last one is answered.

    Args:
        call: Answers batch ``i`` and blocks until it is done. ``i`` counts up from 0; the caller
            rotates 16 distinct batches or more.
        batch: Times in one batch.
        settings: When to stop.
        now: The clock, in ns.

    Raises:
        ValueError: The batch is less than one.
    """
    if batch < 1:
        raise ValueError(f"a batch holds 1 sample or more, not {batch}")
    settings = settings or OfflineSettings()
    with collector_off():
        begin = now()
        _, calls, stable = settle(call, settings.warmup_max_s, now)
        intervals = np.empty(0, dtype=np.int64)
        start = now()
        precise = done = False
        while not done:
            call(calls)  # not timed: the warm-up's or the statistics' work left the caches cold
            calls += 1
            block = _block(
                call, calls, max(_LEAST_BLOCK, len(intervals) // 2), start, settings, now
            )
            calls += len(block)
            intervals = np.concatenate([intervals, block])
            rate = statistics.latency_columns(intervals, batch)["throughput_per_s"]
            precise = _precise(rate, settings.precision)
            spent = (now() - start) / 1e9
            done = spent >= settings.max_s or (precise and spent >= settings.min_s)
    return OfflineRun(intervals, batch, rate, stable, precise, (now() - begin) / 1e9)


def settle(call: Call, max_s: float, now: Now = time.perf_counter_ns) -> tuple[float, int, bool]:
    """Call until the medians of two consecutive windows of 50 ms agree within 2 % (section 2).

    Args:
        call: Handles request ``i``, which counts up from 0.
        max_s: It ends here, stable or not, after one call at least.
        now: The clock, in ns.

    Returns:
        The last window's median in ns, how many calls were made, and whether the windows agreed.
    """
    deadline = now() + round(max_s * 1e9)
    before, calls = 0.0, 0
    while True:
        window: list[int] = []
        begin = end = now()
        while not window or (end - begin < _WINDOW_NS and end <= deadline):
            start = end
            call(calls)
            calls += 1
            end = now()
            window.append(max(1, end - start))
        typical = float(np.median(window))
        if before and abs(typical - before) <= AGREEMENT * before:
            return typical, calls, True
        if end >= deadline:
            return typical, calls, False
        before = typical


def _block(
    call: Call, first: int, size: int, start: int, settings: OfflineSettings, now: Now
) -> Times:
    """Up to ``size`` intervals: at least one, and none that begins after the time is up."""
    deadline = start + round(settings.max_s * 1e9)
    last = now()
    intervals: list[int] = []
    for i in range(first, first + size):
        call(i)
        end = now()
        intervals.append(max(1, end - last))
        last = end
        if end >= deadline:
            break
    return np.array(intervals, dtype=np.int64)


def _precise(rate: Estimate, precision: float) -> bool:
    low = -math.inf if rate.low is None else rate.low
    high = math.inf if rate.high is None else rate.high
    return (high - low) / 2 <= precision * rate.value
