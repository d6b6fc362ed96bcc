"""The highest rate that a server bears under a limit on its p99 (measurement.md, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from autotune.measure.batcher import Batcher, assemble
from autotune.measure.blocks import collector_off
from autotune.measure.ladder import FIRST_PROBES, Ladder, gap, next_rate, probes_left
from autotune.measure.offline import settle
from autotune.measure.probe import LEAST_REQUESTS, USUAL_REQUESTS, Probe, judge, plan
from autotune.measure.server import Clock, Run, Times, VirtualTime, drive

if TYPE_CHECKING:
    from autotune.contracts import Arrays

_WARMUP_SHARE = 0.1
_FORECAST_REQUESTS = 10_000
_ENDLESS_NS = 10**18


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
class Highest:
    """What the search found.

    Attributes:
        limit_ms: The limit on the p99.
        rate_per_s: The highest rate that holds; None where none was found.
        fails_at_per_s: The lowest rate above it that did not hold: its p99 is too high, or cannot
            be told in the time; None where there is none.
        bound_ms: The upper bound of the p99 at ``rate_per_s``.
        ended: "found": as closely as was asked for; "no rate": even where requests hardly ever
            meet, the limit is missed; "time": the time was up before either was clear.
        probes: All rates tried, in order.
        service_ms: The median time of one request alone, batch 1.
        latencies_ns: What the requests of the probe ``shown`` saw, in order of arrival, shape (n,).
    """

    limit_ms: float
    rate_per_s: float | None
    fails_at_per_s: float | None
    bound_ms: float | None
    ended: Literal["found", "no rate", "time"]
    probes: tuple[Probe, ...]
    service_ms: float
    latencies_ns: Times = field(compare=False, repr=False)

    @property
    def shown(self) -> Probe | None:
        """The probe at the rate that holds; the nearest one where none does."""
        return _held(self.probes, self.rate_per_s) or self.nearest

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

    The search begins where a forecast from the measured service times would end (without one, at
    one request per service time) and steps away from there, ever wider, until one rate holds and
    one above it fails; then it halves the gap on a logarithmic scale. A rate holds by what was
    measured at it, never by the forecast.

    Args:
        run: Answers a batch of 1 to ``batcher.max_batch`` samples; blocks until it is done.
        samples: Real samples that the requests rotate over: by input name, of shape (1, ...).
        batcher: Which requests go together.
        limit_ms: On the p99 of the latency from the scheduled arrival.
        settings: How long to search, and how closely.
        clock: The wall clock, unless another is given.

    Raises:
        ValueError: The limit is not above zero, or there are no samples.
    """
    if not 0 < limit_ms < math.inf:
        raise ValueError(f"the limit of a latency is above 0 ms, not {limit_ms}")
    if not samples:
        raise ValueError("a server needs samples to serve: got none")
    settings, clock = settings or RateSettings(), clock or Clock()
    deadline = clock.now() + round(settings.max_s * 1e9)
    with collector_off():
        curve = _warm_up(run, samples, batcher, settings.max_s * _WARMUP_SHARE, clock)
        guess = _forecast(curve, batcher, limit_ms, settings)
        ladder = Ladder(batcher, limit_ms, settings.tolerance, curve[1] / 1e9, guess)
        return _search(run, samples, ladder, settings, deadline, clock)


def _search(
    run: Run,
    samples: Sequence[Arrays],
    ladder: Ladder,
    settings: RateSettings,
    deadline: int,
    clock: Clock,
) -> Highest:
    probes: list[Probe] = []
    streams: list[Times] = []
    while True:
        rate = next_rate(probes, ladder)
        if isinstance(rate, str):
            return _told(ladder, rate, probes, streams)
        left_s = (deadline - clock.now()) / 1e9
        load = plan(
            rate,
            ladder.limit_ms,
            share_s=left_s / probes_left(probes, settings.tolerance),
            left_s=left_s,
            most=settings.most_requests,
            seed=settings.seed,
        )
        if load is None:
            return _told(ladder, "time", probes, streams)
        seen = drive(run, samples, ladder.batcher, load, clock)
        probes.append(judge(load, seen, ladder.limit_ms))
        streams.append(seen.latencies_ns)


def _warm_up(
    run: Run, samples: Sequence[Arrays], batcher: Batcher, max_s: float, clock: Clock
) -> dict[int, float]:
    """The typical ns of batches of 1, 2, 4, ... samples; every other size is met once too."""
    deadline = clock.now() + round(max_s * 1e9)
    powers = range(batcher.max_batch.bit_length() + 1)
    sizes = sorted({min(2**power, batcher.max_batch) for power in powers})
    share_s = max_s / 2 / len(sizes)

    def typical(size: int) -> float:
        return settle(lambda i: run(assemble(samples, i * size, size)), share_s, clock.now)[0]

    curve = {1: typical(1)}
    for size in sizes[1:]:
        if clock.now() + 2 * max(curve.values()) > deadline:
            break
        curve[size] = typical(size)
    for size in range(batcher.max_batch, 0, -1):  # a runtime may compile for a shape it never saw
        if clock.now() + max(curve.values()) > deadline:
            break
        run(assemble(samples, 0, size))
    return curve


def _forecast(
    curve_ns: Mapping[int, float], batcher: Batcher, limit_ms: float, settings: RateSettings
) -> float | None:
    """Where the same search ends, in virtual time, for batches that always take their typical time.

    Only a place to begin: all that is claimed is measured.
    """
    virtual = VirtualTime()
    sizes, times = list(curve_ns), list(curve_ns.values())

    def run(batch: Arrays) -> None:
        virtual.now_ns += round(float(np.interp(len(batch["x"]), sizes, times)))

    service_s = curve_ns[1] / 1e9
    requests = max(USUAL_REQUESTS, round(settings.max_s / FIRST_PROBES / service_s))
    most = min(requests, _FORECAST_REQUESTS, settings.most_requests)
    ladder = Ladder(batcher, limit_ms, settings.tolerance, service_s, None)
    blank = [{"x": np.empty((1, 0))}]
    brief = replace(settings, most_requests=most)
    return _search(run, blank, ladder, brief, _ENDLESS_NS, virtual.clock).rate_per_s


def _told(
    ladder: Ladder,
    ended: Literal["found", "no rate", "time"],
    probes: Sequence[Probe],
    streams: Sequence[Times],
) -> Highest:
    low, high = gap(probes)
    held = _held(probes, low)
    found = Highest(
        limit_ms=ladder.limit_ms,
        rate_per_s=low,
        fails_at_per_s=high,
        bound_ms=held.bound_ms if held else None,
        ended=ended,
        probes=tuple(probes),
        service_ms=ladder.service_s * 1e3,
        latencies_ns=np.empty(0, dtype=np.int64),
    )
    if found.shown is None:
        return found
    return replace(found, latencies_ns=streams[list(probes).index(found.shown)])


def _held(probes: Sequence[Probe], rate_per_s: float | None) -> Probe | None:
    """The probe at which that rate held."""
    return next((p for p in probes if p.meets and p.rate_per_s == rate_per_s), None)
