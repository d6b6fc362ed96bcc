"""Which rate to try next, by the rates that were tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autotune.measure.batcher import Batcher
from autotune.measure.probe import AMPLE_REQUESTS, Probe
from autotune.measure.tail import (
    BEYOND,
    NEAR,
    SLOPE,
    Evidence,
    Tail,
    evidence,
    tail,
    within_reach,
)

PROBES = 5
"""So many that tell something share the time."""
_SCOUTS = 20
_UNCROWDED = 0.25
"""Up to this load most requests find the server free: at lower rates no median is much lower."""
_FIRST_STEP = 1.05
"""The first step away from a forecast that is hopeless; the next is its square, ..."""
_MOST = 2.0
_COMPANY = 0.1
"""Of the batches so many are full before the server is free where requests wait for it, too."""
_DOUBT = 0.25
"""Of the time that is left so much goes to a rate that the forecast says cannot be hopeless."""
_COARSE = 1.1
"""Closer than this no rate is looked for between one that is too slow and one that is too fast."""


@dataclass(frozen=True)
class Ladder:
    """What the choice of the next rate hangs on, beside the probes made."""

    batcher: Batcher
    limit_ms: float
    tolerance: float
    service_s: float
    forecast: Tail | None

    @property
    def company_needed(self) -> bool:
        """Whether it is the wait for company alone that is too long: more requests shorten it."""
        service_ms = self.service_s * 1e3
        waits = self.batcher.max_batch > 1
        return waits and service_ms <= self.limit_ms < service_ms + self.batcher.max_queue_delay_ms

    def busy(self, probes: Sequence[Probe]) -> list[Probe]:
        """Those from which on more requests mean more waiting: all, unless company is needed."""
        return [p for p in probes if not self.company_needed or p.pressed_share > _COMPANY]

    def tail(self, probes: Sequence[Probe]) -> Tail | None:
        """How the requests above the limit hang on the rate, as far as anything tells it."""
        return tail(self.busy(probes), self.forecast)


def next_rate(
    probes: Sequence[Probe], ladder: Ladder, left_s: float
) -> float | Literal["found", "no rate"]:
    """The rate to try next, or how the search ended.

    Once something is known of the tail it is the highest rate that the time left could still show
    to hold. Before that, rates are doubled or halved (from a forecast: in steps that grow). The
    search does not end at a rate that was hopeless once: that is tried again.
    """
    rate = _next(probes, ladder, left_s)
    if not isinstance(rate, str):
        return rate
    barred = _barred(probes, ladder, left_s)
    return rate if barred is None else barred


def _barred(probes: Sequence[Probe], ladder: Ladder, left_s: float) -> float | None:
    """The hopeless rate that bars higher ones which are within reach, if it was tried too little.

    A machine that stands still for a moment makes any rate hopeless. So once is too little; where
    all were hopeless, and the forecast knows a rate, less than a share of the time that is left.
    """
    model, busy = ladder.tail(probes), ladder.busy(probes)
    able = max((p.rate_per_s for p in busy if not p.hopeless), default=0.0)
    lowest = min((p.rate_per_s for p in busy if p.rate_per_s > able), default=math.inf)
    tries = [probe.seconds for probe in busy if probe.rate_per_s == lowest]
    if not tries or (able and model and within_reach(model, probes, left_s) < lowest):
        return None
    doubtful = not able and ladder.forecast and sum(tries) < _DOUBT * left_s
    return lowest if doubtful or len(tries) == 1 else None


def _next(
    probes: Sequence[Probe], ladder: Ladder, left_s: float
) -> float | Literal["found", "no rate"]:
    model, busy = ladder.tail(probes), ladder.busy(probes)
    able = [probe.rate_per_s for probe in busy if not probe.hopeless]
    held = evidence(probes)
    if not probes:
        return within_reach(model, probes, left_s) if model else 1 / ladder.service_s
    sure = _soonest_shown(busy, held, left_s)
    if sure is not None:
        return sure
    if able:
        wanted = within_reach(model, probes, left_s) if model else _MOST * max(able)
        rate = _between(wanted, busy)
        if held is not None and rate <= held.rate_per_s * (1 + ladder.tolerance):
            return "found"
        return rate if model else _quiet(rate, busy, held, left_s)
    if ladder.forecast is None and ladder.company_needed:
        busier = _busier(probes)
        if busier is not None:
            return busier
    slowest = min(probes, key=lambda probe: probe.rate_per_s)
    if slowest.rate_per_s * ladder.service_s <= _UNCROWDED and slowest.p50_ms > ladder.limit_ms:
        return "no rate"
    step = _MOST if ladder.forecast is None else _FIRST_STEP
    grown = step ** min(1 << (len(probes) - 1), 16)
    return slowest.rate_per_s / min(_MOST, max(grown, _too_fast(slowest)))


def _too_fast(hopeless: Probe) -> float:
    """By what the rate of a hopeless probe is about too high, by its share above the limit."""
    return float((hopeless.above / hopeless.answered / BEYOND) ** (1 / SLOPE))


def _soonest_shown(probes: Sequence[Probe], held: Evidence | None, left_s: float) -> float | None:
    """As long as no rate holds, the one that takes least time to be shown to, if there is so much.

    Of those at which no request was above the limit.
    """
    clean = [p.rate_per_s for p in probes if not p.hopeless and not p.above]
    rate = min(clean, key=lambda rate: lacking_s(rate, probes), default=None)
    if held is not None or rate is None or lacking_s(rate, probes) > left_s:
        return None
    return rate


def lacking_s(rate: float, probes: Sequence[Probe]) -> float:
    """The time that it takes until so many are seen at the rate as can tell, at its pace so far."""
    own = [probe for probe in probes if probe.rate_per_s == rate and not probe.hopeless]
    so_far, seconds = sum(p.effective for p in own), sum(p.seconds for p in own)
    return max(0.0, AMPLE_REQUESTS - so_far) * seconds / so_far if so_far else math.inf


def _quiet(
    rate: float, probes: Sequence[Probe], held: Evidence | None, left_s: float
) -> float | Literal["found"]:
    """Where no request is above the limit yet: a rate of which the time left can tell.

    Up to ``rate``, as long as the highest so far is one; near the rate that is hopeless a queue
    forgets so slowly that none is.
    """
    able = [probe for probe in probes if not probe.hopeless]
    rates = {probe.rate_per_s for probe in able}
    best = max((r for r in rates if _telling(r, able, held, left_s)), default=None)
    if best is None:
        return min(rates) / _MOST
    if best == max(rates) and rate > best * NEAR:
        return rate
    return "found" if held is not None and best <= held.rate_per_s else best


def _telling(rate: float, able: Sequence[Probe], held: Evidence | None, left_s: float) -> bool:
    """Whether all the time that is left, spent at the rate, would tell whether it holds."""
    return lacking_s(rate, able) <= left_s or (held is not None and rate <= held.rate_per_s)


def share_s(probes: Sequence[Probe], rate: float, left_s: float) -> float:
    """How long the next probe should take: little while it is only to find where to look."""
    told = sum(not probe.hopeless and probe.above > 0 for probe in probes)
    if probes and not told:
        lacking = lacking_s(rate, probes)
        return left_s / _SCOUTS if lacking == math.inf else min(left_s, 1.5 * lacking)
    return left_s / max(1, PROBES - told)


def _between(rate: float, probes: Sequence[Probe]) -> float:
    """The rate, but not so far from those that were able, and below the next that was hopeless."""
    able = [probe.rate_per_s for probe in probes if not probe.hopeless]
    rate = min(max(rate, min(able) / _MOST), _MOST * max(able))
    hopeless = [p.rate_per_s for p in probes if p.hopeless and p.rate_per_s > max(able)]
    if hopeless and rate >= min(hopeless):
        return math.sqrt(max(able) * min(hopeless))
    return rate


def _busier(probes: Sequence[Probe]) -> float | None:
    """A rate that fills batches sooner and yet leaves the server free; None: all were tried."""
    calm = max((p.rate_per_s for p in probes if p.pressed_share <= 0.5), default=None)
    pressed = min((p.rate_per_s for p in probes if p.pressed_share > 0.5), default=None)
    if calm is None:
        return None
    if pressed is None:
        return _MOST * calm
    return math.sqrt(calm * pressed) if pressed > calm * _COARSE else None
