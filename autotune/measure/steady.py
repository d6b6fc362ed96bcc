"""Whether a model stays as it is from call to call: its memory, its answers (section 5)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.measure.memory import rss_bytes

SUSPICIOUS_BYTES = 2**18
"""Memory that grows by less over a whole measurement is the allocators' to and fro."""
ROUNDING = 1e-5
"""Answers that differ by less than this share of the largest differ by the order of their sums."""
_BLOCKS = 8
_BLOCK_S = 0.1
_MOST_CALLS = 1000
_MOST_BYTES = 64 * 2**20


def leak(
    call: Callable[[int], object],
    typical_s: float,
    suspected_bytes: float,
    rss: Callable[[], int] = rss_bytes,
) -> float | None:
    """The bytes that each call leaves behind; None where memory does not go on growing.

    Blocks of calls, with the garbage collected after each: what a collection gives back is no leak,
    nor is a cache that fills up. Made only where a measurement saw memory grow.

    Args:
        call: Handles request ``i``, which counts up from 0.
        typical_s: What a call takes.
        suspected_bytes: What a call seemed to leave behind; keeps the search for it small.
        rss: Resident memory of this process.
    """
    room = _MOST_BYTES / _BLOCKS / max(1.0, suspected_bytes)
    calls = max(1, min(_MOST_CALLS, round(_BLOCK_S / typical_s), round(room)))
    gc.collect()
    readings = [rss()]
    for block in range(_BLOCKS):
        for i in range(calls):
            call(block * calls + i)
        gc.collect()
        readings.append(rss())
    return growth(readings, calls)


def growth(readings: Sequence[int], calls: int) -> float | None:
    """The slope of memory over calls, where it rises steadily; None where it does not.

    The median of the slopes between all pairs of readings (Theil and Sen 1968), where the readings
    rise over at least three quarters of the steps: a few large steps are no leak.

    Args:
        readings: Resident memory in bytes, shape (n,), n >= 2.
        calls: Calls between two readings.
    """
    steps = np.diff(readings)
    slopes = [
        (readings[j] - readings[i]) / (j - i) for i, j in combinations(range(len(readings)), 2)
    ]
    slope = float(np.median(slopes)) / calls
    return slope if (steps > 0).mean() >= 0.75 and slope > 0 else None


def difference(first: NDArray[Any], again: NDArray[Any]) -> float | None:
    """The largest absolute difference of two answers to the same request; None: they are the same.

    Differences within ``ROUNDING`` count as none: threads add in no fixed order. Where one answer
    is finite and the other is not, that is infinite.
    """
    if first.shape != again.shape:
        return float("inf")
    one, other = first.astype(np.float64), again.astype(np.float64)
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)):
        return float("inf")
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return float("inf")
    largest = float(np.abs(one[finite]).max(initial=0.0))
    found = float(np.abs(one[finite] - other[finite]).max(initial=0.0))
    return found if found > ROUNDING * largest else None
