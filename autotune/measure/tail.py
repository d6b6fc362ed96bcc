"""How the requests above the limit hang on the rate, by the rates that were tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from autotune.measure import statistics
from autotune.measure.probe import AMPLE_REQUESTS, LEVEL, Probe
from autotune.measure.statistics import Floats

BEYOND = 1 - LEVEL
"""The share of the requests that may be above the limit."""
NEAR = 1.03
"""What was seen at rates up to so many times higher is evidence: fewer requests wait less."""
SLOPE = 6.0
"""Where nothing tells it: an M/D/1 queue's is about that at limits of 5 to 10 service times."""
_SLOPES = 2.0 ** np.linspace(-2, 2, 33)
_SPREAD = 0.7
_WEIGHT = 2.0
"""What the model is anchored at counts as much as so many requests above the limit."""
_GRID = np.exp(np.linspace(math.log(0.5), math.log(2.0), 700))
_CUSHION = 0.5
_Z = NormalDist().inv_cdf(statistics.CONFIDENCE)
_USUAL_WORTH = 0.3


@dataclass(frozen=True)
class Tail:
    """The share above the limit: ``0.01 (rate / rate_per_s)^slope``, as long as it is small.

    Attributes:
        rate_per_s: Where it is 1 %: the p99 is the limit.
        slope: Of its logarithm over that of the rate.
        above: Requests above the limit, as many as independent ones are worth, that say so.
    """

    rate_per_s: float
    slope: float = SLOPE
    above: float = 0.0

    @property
    def at_most_per_s(self) -> float:
        """Where the p99 is above the limit with 95 % confidence, as far as the model holds."""
        more = 1 + _Z / math.sqrt(max(1.0, self.above))
        return self.rate_per_s * math.exp(math.log(more) / self.slope)


def tail(probes: Sequence[Probe], forecast: Tail | None) -> Tail | None:
    """What the probes that were not hopeless say, or the forecast; None where neither says a thing.

    A Poisson regression of the requests above the limit on the logarithm of the rate, anchored at
    the forecast, or else at the probe that tells most; the level has a closed form for each slope
    that is tried.
    """
    able = [probe for probe in probes if not probe.hopeless]
    anchor = forecast or _anchor(able)
    if anchor is None or not able:
        return anchor
    above = np.array([_WEIGHT, *(p.effective_above for p in able)])
    sizes = np.array([_WEIGHT / BEYOND, *(p.effective for p in able)])
    rates = np.array([1.0, *(p.rate_per_s / anchor.rate_per_s for p in able)])
    slopes = anchor.slope * _SLOPES
    shape = sizes * rates ** slopes[:, None]
    level = above.sum() / shape.sum(axis=1)
    likelihood = (above * np.log(level[:, None] * shape)).sum(axis=1)
    best = int(np.argmax(likelihood - (np.log(_SLOPES) / _SPREAD) ** 2 / 2))
    slope = float(slopes[best])
    where = anchor.rate_per_s * float(BEYOND / level[best]) ** (1 / slope)
    return Tail(where, slope, float(above[1:].sum()))


def within_reach(model: Tail, probes: Sequence[Probe], left_s: float) -> float:
    """The highest rate that would be shown to hold, were the time that is left spent at it.

    With a cushion of half a standard deviation of what chance will add.
    """
    tried = sorted((p for p in probes if not p.hopeless), key=lambda probe: probe.rate_per_s)
    rates = np.sort(np.append(model.rate_per_s * _GRID, [p.rate_per_s for p in tried]))
    sizes = rates * max(0.0, left_s) * _worth(rates, tried)
    above = sizes * BEYOND * (rates / model.rate_per_s) ** model.slope
    above += _CUSHION * np.sqrt(above)
    alone = above <= _allowed(sizes)
    for probe in tried:
        counts = (rates <= probe.rate_per_s) & (probe.rate_per_s <= rates * NEAR)
        sizes = sizes + counts * probe.effective
        above = above + counts * probe.effective_above
    return float(rates[alone | (above <= _allowed(sizes))].max(initial=rates[0]))


@dataclass(frozen=True)
class Evidence:
    """Probes that are taken together for a rate, which is the first one's."""

    probes: tuple[Probe, ...]

    @property
    def rate_per_s(self) -> float:
        return self.probes[0].rate_per_s

    @property
    def rank(self) -> int | None:
        """Of the p99's upper bound among all their latencies; None where they cannot tell it."""
        answered = sum(probe.answered for probe in self.probes)
        effective = sum(probe.effective for probe in self.probes)
        return statistics.pooled_rank(answered, effective, LEVEL)

    @property
    def holds(self) -> bool:
        """Whether that bound is within the limit."""
        within = sum(probe.answered - probe.above for probe in self.probes)
        return self.rank is not None and self.rank <= within


def evidence(probes: Sequence[Probe]) -> Evidence | None:
    """The highest rate that holds; None where none does.

    A rate holds where the upper bound of the p99 is within the limit: of its probes, or of those
    and all at little higher rates together, which can only make it worse. Where one of the higher
    ones was hopeless the others were the lucky ones, and do not count. Hopeless probes at little
    lower rates speak against it, each as much as it is worth: it ended in the midst of a burst.
    """
    able = sorted((p for p in probes if not p.hopeless), key=lambda probe: probe.rate_per_s)
    hopeless = [probe for probe in probes if probe.hopeless]
    for rate in sorted({probe.rate_per_s for probe in able}, reverse=True):
        near = [p for p in able if rate <= p.rate_per_s <= NEAR * rate]
        own = [p for p in near if p.rate_per_s == rate]
        against = [p for p in hopeless if rate / NEAR <= p.rate_per_s <= rate]
        lucky = any(rate < p.rate_per_s <= NEAR * rate for p in hopeless)
        for together in (own,) if lucky else (own, near):
            found = Evidence(tuple(together))
            if found.holds and _outweighs(together, against):
                return found
    return None


def _outweighs(probes: Sequence[Probe], hopeless: Sequence[Probe]) -> bool:
    """Whether the rate holds, the independent requests of hopeless probes included."""
    sizes = sum(p.effective for p in probes) + sum(max(1.0, p.effective) for p in hopeless)
    above = sum(p.effective_above for p in probes)
    above += sum(max(1.0, p.effective_above) for p in hopeless)
    return not hopeless or above <= float(_allowed(np.array(sizes)))


def _anchor(probes: Sequence[Probe]) -> Tail | None:
    """The model through the probe with the most requests above the limit."""
    most = max(probes, key=lambda probe: probe.effective_above, default=None)
    if most is None or most.above == 0:
        return None
    share = most.above / most.answered
    return Tail(most.rate_per_s * (BEYOND / share) ** (1 / SLOPE))


def _worth(rates: Floats, tried: Sequence[Probe]) -> Floats:
    """How many independent requests one is worth: at lower rates never less than at higher ones."""
    if not tried:
        return np.full(len(rates), _USUAL_WORTH)
    seen = [probe.effective / probe.answered for probe in tried]
    falling = np.maximum.accumulate(seen[::-1])[::-1]
    return np.interp(rates, [probe.rate_per_s for probe in tried], falling)


def _allowed(sizes: Floats) -> Floats:
    """About how many of so many independent requests may be above the limit that the p99 holds.

    Below 0 where there are too few to tell.
    """
    enough = sizes >= AMPLE_REQUESTS
    return np.where(enough, sizes * BEYOND - _Z * np.sqrt(sizes * BEYOND * LEVEL) + 0.5, -1.0)
