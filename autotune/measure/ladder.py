"""Which rate to try next, by the rates that were tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autotune.measure.batcher import Batcher
from autotune.measure.probe import Probe

FIRST_PROBES = 3
"""So many find the rate where the forecast is good, so each may take such a part of the time."""
_UNCROWDED = 0.25
"""Up to this load most requests find the server free: at lower rates no median is much lower."""
_NEAR = 1.05
"""The first step away from the forecast; the next are its square, its fourth power, ..."""
_COARSE = 1.1
"""Closer than this no rate is looked for between one that is too slow and one that is too fast."""


@dataclass(frozen=True)
class Ladder:
    """What the choice of the next rate hangs on, beside the probes made."""

    batcher: Batcher
    limit_ms: float
    tolerance: float
    service_s: float
    guess: float | None

    @property
    def company_needed(self) -> bool:
        """Whether it is the wait for company alone that is too long: more requests shorten it."""
        service_ms = self.service_s * 1e3
        waits = self.batcher.max_batch > 1
        return waits and service_ms <= self.limit_ms < service_ms + self.batcher.max_queue_delay_ms

    @property
    def start(self) -> float:
        return self.guess or 1 / self.service_s

    @property
    def step(self) -> float:
        return 2.0 if self.guess is None else _NEAR


def next_rate(probes: Sequence[Probe], ladder: Ladder) -> float | Literal["found", "no rate"]:
    """The rate to try next, or how the search ended."""
    if not probes:
        return ladder.start
    low, high = gap(probes)
    factor = min(2.0, ladder.step ** min(1 << (len(probes) - 1), 16))
    if low is not None and high is not None:
        return "found" if high <= low * (1 + ladder.tolerance) else math.sqrt(low * high)
    if low is not None:
        return factor * low
    if ladder.guess is None and ladder.company_needed:
        busier = _busier(probes)
        if busier is not None:
            return busier
    slowest = min(probes, key=lambda probe: probe.rate_per_s)
    if slowest.rate_per_s * ladder.service_s <= _UNCROWDED and slowest.p50_ms > ladder.limit_ms:
        return "no rate"
    return slowest.rate_per_s / factor


def gap(probes: Sequence[Probe]) -> tuple[float | None, float | None]:
    """The highest rate that holds, and the lowest one above it that fails."""
    low = max((probe.rate_per_s for probe in probes if probe.meets), default=None)
    failed = [p.rate_per_s for p in probes if not p.meets and (low is None or p.rate_per_s > low)]
    return low, min(failed, default=None)


def probes_left(probes: Sequence[Probe], tolerance: float) -> int:
    """About how many probes are still to come, the next one included."""
    low, high = gap(probes)
    if low is None or high is None:
        return max(2, FIRST_PROBES - len(probes))
    return max(1, math.ceil(math.log2(math.log(high / low) / math.log1p(tolerance))))


def _busier(probes: Sequence[Probe]) -> float | None:
    """A rate that fills batches sooner and yet leaves the server free; None: all were tried."""
    calm = max((p.rate_per_s for p in probes if p.pressed_share <= 0.5), default=None)
    pressed = min((p.rate_per_s for p in probes if p.pressed_share > 0.5), default=None)
    if calm is None:
        return None
    if pressed is None:
        return 2 * calm
    return math.sqrt(calm * pressed) if pressed > calm * _COARSE else None
