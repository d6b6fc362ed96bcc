"""The highest rate that a server bears under a limit on its p99 (measurement.md, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from autotune.measure import statistics
from autotune.measure.batcher import Batcher, assemble
from autotune.measure.offline import settle
from autotune.measure.server import Clock, GiveUp, Load, Run, ServerRun, serve

if TYPE_CHECKING:
    from autotune.contracts import Arrays

LEVEL = 0.99
LEAST_REQUESTS = 299
"""Fewer independent latencies cannot bound a p99 at 95 %: 1 - 0.99^n >= 0.95."""
USUAL_REQUESTS = 1050
"""So many correlated ones are usually worth 299 (measurement.md, section 4)."""
SATURATED = 0.01
"""A server that idles less cannot keep up: its queue grows, and no percentile is a steady one."""
_UNCROWDED = 0.25
"""Up to this load most requests find the server free: at lower rates no median is much lower."""
_WARMUP_SHARE = 0.1
_WAITING_SHARE = 0.9
_BLOCKS = statistics.BLOCKS


@dataclass(frozen=True)
class RateSettings:
    """How long to search, and how closely.

    Attributes:
        max_s: Wall time of the whole search, warm-up included; only the answers to requests that
            are already under way come later.
        tolerance: The search ends when the lowest rate that fails is so little above the highest
            that holds, as a share.
        most_requests: The most of one probe.
        seed: Of the arrivals, the same in every probe.

    Raises:
        ValueError: A time or a tolerance that is not above zero, or too few requests to tell a p99.
    """

    max_s: float = 30.0
    tolerance: float = 0.03
    most_requests: int = 100_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.max_s < math.inf:
            raise ValueError(f"max_s is a time above 0, not {self.max_s}")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance is above 0, not {self.tolerance}")
        if self.most_requests < LEAST_REQUESTS:
            raise ValueError(
                f"most_requests is {LEAST_REQUESTS} or more, not {self.most_requests}: "
                "fewer cannot tell a p99"
            )


@dataclass(frozen=True)
class Probe:
    """One rate that was tried.

    Attributes:
        rate_per_s: Requests per second that were asked for.
        answered: Requests that got their answer.
        unanswered: Those that waited for it when a hopeless probe was ended.
        p50_ms, p99_ms: Of the latencies that were seen.
        bound_ms: The upper bound of the p99; None where the probe cannot tell it.
        meets: Whether the rate holds: the bound is within the limit and the server keeps up.
        why: In words where it does not; empty where it does.
        mean_batch: Requests in a batch.
        late_p99_ms: How late batches began by the instrument's own fault.
        seconds: Wall time.
    """

    rate_per_s: float
    answered: int
    unanswered: int
    p50_ms: float
    p99_ms: float
    bound_ms: float | None
    meets: bool
    why: str
    mean_batch: float
    late_p99_ms: float
    seconds: float


@dataclass(frozen=True)
class Highest:
    """What the search found.

    Attributes:
        limit_ms: The limit on the p99.
        rate_per_s: The highest rate that holds; None where none was found.
        fails_at_per_s: The lowest rate above it that failed; None where none did.
        bound_ms: The upper bound of the p99 at ``rate_per_s``.
        ended: "found": as closely as was asked for; "no rate": even where requests hardly ever
            meet, the limit is missed; "time": the time was up before either was clear.
        probes: All rates tried, in order.
        service_ms: The median time of one request alone, batch 1.
    """

    limit_ms: float
    rate_per_s: float | None
    fails_at_per_s: float | None
    bound_ms: float | None
    ended: Literal["found", "no rate", "time"]
    probes: tuple[Probe, ...]
    service_ms: float

    @property
    def nearest(self) -> Probe | None:
        """The probe at the lowest rate: what to show where no rate holds; None without a probe."""
        return min(self.probes, key=lambda probe: probe.rate_per_s, default=None)

    @property
    def reason(self) -> str:
        """Why the search ended, in a sentence."""
        if self.ended == "found":
            return f"p99 <= {self.limit_ms:g} ms holds up to {self.rate_per_s:.4g} requests/s"
        if self.rate_per_s is not None:
            above = self.fails_at_per_s
            to = "no rate above it failed" if above is None else f"{above:.4g} fails"
            return (
                f"the time was up: p99 <= {self.limit_ms:g} ms holds at {self.rate_per_s:.4g} "
                f"requests/s, {to}"
            )
        head = "no rate meets" if self.ended == "no rate" else "the time was up before a rate met"
        near = self.nearest
        seen = (
            f"a request alone takes {self.service_ms:.4g} ms"
            if near is None
            else f"at {near.rate_per_s:.4g} requests/s the p99 is {near.p99_ms:.4g} ms ({near.why})"
        )
        return f"{head} p99 <= {self.limit_ms:g} ms: {seen}"


def highest(
    run: Run,
    samples: Sequence[Arrays],
    batcher: Batcher,
    limit_ms: float,
    settings: RateSettings | None = None,
    clock: Clock | None = None,
) -> Highest:
    """The highest rate of Poisson arrivals whose p99 is, with 95 % confidence, within the limit.

    Beginning at one request per service time, the rate is doubled or halved until one holds and one
    above it fails; then the gap is halved on a logarithmic scale.

    Args:
        run: Answers a batch of 1 to ``batcher.max_batch`` samples; blocks until it is done.
        samples: Real samples that the requests rotate over: by input name, of shape (1, ...).
        batcher: Which requests go together.
        limit_ms: On the p99 of the latency from the scheduled arrival.
        settings: How long to search, and how closely.
        clock: The wall clock, unless a test brings another.

    Raises:
        ValueError: The limit is not above zero, or there are no samples.
    """
    if not 0 < limit_ms < math.inf:
        raise ValueError(f"the limit of a latency is above 0 ms, not {limit_ms}")
    if not samples:
        raise ValueError("a server needs samples to serve: got none")
    settings, clock = settings or RateSettings(), clock or Clock()
    deadline = clock.now() + round(settings.max_s * 1e9)
    service_s = _warm_up(run, samples, batcher, settings.max_s * _WARMUP_SHARE, clock)
    probes: list[Probe] = []
    while True:
        rate = _next(probes, service_s, batcher, limit_ms, settings.tolerance)
        if isinstance(rate, str):
            return _told(limit_ms, rate, probes, service_s)
        left_s = (deadline - clock.now()) / 1e9
        load = _load(rate, left_s, _probes_left(probes, settings.tolerance), limit_ms, settings)
        if load is None:
            return _told(limit_ms, "time", probes, service_s)
        seen = serve(run, samples, batcher, load, clock)
        probes.append(_judged(load, seen, limit_ms))


def p99_bound(latencies_ms: NDArray[Any]) -> float | None:
    """The one-sided 95 % upper bound of the p99 of a queue's latencies; None: they cannot tell.

    The higher of two. ``statistics.upper_bound`` pays for the correlation of neighbours. In a queue
    that is too little: latencies above the p99 come in clusters, one a long busy period. So the
    other counts the independent samples by the spread, between consecutive blocks, of the share of
    latencies above the p99, n_eff = p (1 - p) / var(p) (Korn and Graubard 1998, for clustered
    surveys), and takes the binomial rank of as many.
    """
    near = statistics.upper_bound(latencies_ms, LEVEL)
    rank = statistics.upper_rank(size := _tail_size(latencies_ms), LEVEL, statistics.CONFIDENCE)
    if near is None or rank is None:
        return None
    return max(near, float(np.quantile(latencies_ms, rank / (size + 1), method="weibull")))


def _tail_size(latencies_ms: NDArray[Any]) -> int:
    """As many independent samples tell as much about the share above the p99."""
    count = len(latencies_ms)
    length = count // _BLOCKS
    if length == 0:
        return 0
    above = latencies_ms > np.quantile(latencies_ms, LEVEL)
    share = float(above.mean())
    blocks = above[count - _BLOCKS * length :].reshape(_BLOCKS, length).mean(axis=1)
    variance = float(blocks.var(ddof=1)) / _BLOCKS
    return count if variance == 0 else math.floor(min(count, share * (1 - share) / variance))


def _warm_up(
    run: Run, samples: Sequence[Arrays], batcher: Batcher, max_s: float, clock: Clock
) -> float:
    """Seconds of one request alone, after each size of batch was seen once: the largest first."""
    deadline = clock.now() + round(max_s * 1e9)
    for size in range(batcher.max_batch, 0, -1):
        run(assemble(samples, 0, size))
        if clock.now() >= deadline:
            break
    typical, _, _ = settle(lambda i: run(assemble(samples, i, 1)), max_s, clock.now)
    return typical / 1e9


def _next(
    probes: Sequence[Probe], service_s: float, batcher: Batcher, limit_ms: float, tolerance: float
) -> float | Literal["found", "no rate"]:
    """The rate to try next, or how the search ended."""
    if not probes:
        return 1 / service_s
    low, high = _gap(probes)
    if low is not None and high is not None:
        return "found" if high <= low * (1 + tolerance) else math.sqrt(low * high)
    if low is not None:
        return 2 * low
    slowest = min(probes, key=lambda probe: probe.rate_per_s)
    fastest = max(probe.rate_per_s for probe in probes)
    alone_ms = batcher.max_queue_delay_ms + service_s * 1e3
    fills_ms = 1e3 * (batcher.max_batch - 1) / fastest
    if alone_ms > limit_ms and fills_ms > batcher.max_queue_delay_ms > 0:
        return 2 * fastest  # a lone request waits too long for company; where more come, it is less
    if slowest.rate_per_s * service_s <= _UNCROWDED and slowest.p50_ms > limit_ms:
        return "no rate"
    return slowest.rate_per_s / 2


def _gap(probes: Sequence[Probe]) -> tuple[float | None, float | None]:
    """The highest rate that holds, and the lowest one above it that fails."""
    low = max((probe.rate_per_s for probe in probes if probe.meets), default=None)
    failed = [p.rate_per_s for p in probes if not p.meets and (low is None or p.rate_per_s > low)]
    return low, min(failed, default=None)


def _probes_left(probes: Sequence[Probe], tolerance: float) -> int:
    """About how many probes are still to come, the next one included."""
    low, high = _gap(probes)
    bracketed = low is not None and high is not None
    gap = high / low if low is not None and high is not None else 2.0
    halvings = math.ceil(math.log2(max(2.0, math.log(gap) / math.log1p(tolerance))))
    return halvings if bracketed else 1 + halvings


def _load(
    rate: float, left_s: float, probes_left: int, limit_ms: float, settings: RateSettings
) -> Load | None:
    """A fair share of the time that is left, but enough to tell; None where there is too little."""
    fair = max(rate * left_s / probes_left, USUAL_REQUESTS)
    count = math.floor(min(fair, _WAITING_SHARE * rate * left_s, settings.most_requests))
    rank = statistics.upper_rank(count, LEVEL, statistics.CONFIDENCE)
    if rank is None:
        return None
    # with more above the limit, even independent latencies would have their bound above it
    give_up = GiveUp(limit_ms, count - rank)
    return Load(rate, count, seconds=left_s, seed=settings.seed, give_up=give_up)


def _judged(load: Load, seen: ServerRun, limit_ms: float) -> Probe:
    latencies_ms = seen.latencies_ns / 1e6
    above = int((latencies_ms > limit_ms).sum())
    hopeless = load.give_up is not None and above > load.give_up.allowed
    bound = None if hopeless else p99_bound(latencies_ms)
    if hopeless:
        why = f"{above} of the first {len(latencies_ms)} requests took longer"
    elif seen.idle_share < SATURATED:
        why = f"the server idles {seen.idle_share:.1%} of the time: it cannot keep up"
    elif bound is None:
        why = f"{len(latencies_ms)} requests, as correlated as these, cannot bound it"
    else:
        why = "" if bound <= limit_ms else f"its upper bound is {bound:.4g} ms"
    facts = seen.facts()
    return Probe(
        rate_per_s=load.rate_per_s,
        answered=facts["answered"],
        unanswered=facts["unanswered"],
        p50_ms=float(np.median(latencies_ms)),
        p99_ms=float(np.quantile(latencies_ms, LEVEL)),
        bound_ms=bound,
        meets=not why,
        why=why,
        mean_batch=facts["mean_batch"],
        late_p99_ms=facts["late_p99_ms"],
        seconds=facts["serving_seconds"],
    )


def _told(
    limit_ms: float,
    ended: Literal["found", "no rate", "time"],
    probes: Sequence[Probe],
    service_s: float,
) -> Highest:
    low, high = _gap(probes)
    bound = next((p.bound_ms for p in probes if p.meets and p.rate_per_s == low), None)
    return Highest(limit_ms, low, high, bound, ended, tuple(probes), service_s * 1e3)
