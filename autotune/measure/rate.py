"""The highest rate that a server bears under a limit on its p99 (measurement.md, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from autotune.measure.batcher import Batcher, assemble
from autotune.measure.blocks import collector_off
from autotune.measure.ladder import Ladder, next_rate, share_s
from autotune.measure.offline import settle
from autotune.measure.probe import LEAST_REQUESTS, Probe, counted, judge, plan
from autotune.measure.server import Clock, Minder, Run, Times, VirtualTime, drive
from autotune.measure.tail import Evidence, Tail, evidence

if TYPE_CHECKING:
    from autotune.contracts import Arrays

_WARMUP_SHARE = 0.1
_FORECAST_PROBES, _FORECAST_REQUESTS = 10, 10_000
_ENDLESS_NS = 10**18

Ended = Literal["found", "no rate", "time"]


@dataclass(frozen=True)
class RateSettings:
    """How long to search, and how closely.

    Attributes:
        max_s: Wall time of the whole search, warm-up included; only the answer that is under way
            then comes later.
        tolerance: The search ends where the time that is left could raise the rate by no more than
            such a share.
        most_requests: The most of one probe.
        seed: Of the arrivals: the first probe's; each probe has the next.

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
        fails_at_per_s: Where the p99 is above the limit with 95 % confidence, as far as the share
            above the limit is a power of the rate; where no more is known, the lowest rate that was
            hopeless; None where there is none.
        bound_ms: The upper bound of the p99 at ``rate_per_s``.
        ended: "found": as closely as was asked for; "no rate": even where requests hardly ever
            meet, the limit is missed; "time": the time was up before either was clear.
        probes: All rates tried, in order.
        service_ms: The median time of one request alone, batch 1.
        shown: The probe at the rate that holds; where none does, the one at the lowest rate.
        latencies_ns: Of the requests that show that the rate holds, by probe and in order of
            arrival, shape (n,); without such a rate, those of the probe ``shown``.
    """

    limit_ms: float
    rate_per_s: float | None
    fails_at_per_s: float | None
    bound_ms: float | None
    ended: Ended
    probes: tuple[Probe, ...]
    service_ms: float
    shown: Probe | None
    latencies_ns: Times = field(compare=False, repr=False)

    @property
    def reason(self) -> str:
        """Why the search ended, in a sentence."""
        if self.ended == "found":
            return f"p99 <= {self.limit_ms:g} ms holds up to {self.rate_per_s:.4g} requests/s"
        if self.rate_per_s is not None:
            above = self.fails_at_per_s
            to = "what fails is not known" if above is None else f"{above:.4g} fails"
            return (
                f"the time was up: p99 <= {self.limit_ms:g} ms holds at {self.rate_per_s:.4g} "
                f"requests/s, {to}"
            )
        head = "no rate meets" if self.ended == "no rate" else "the time was up before a rate met"
        near = self.shown
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
    minder: Minder | None = None,
) -> Highest:
    """The highest rate of Poisson arrivals whose p99 is, with 95 % confidence, within the limit.

    The search begins with a forecast from the measured service times (without one, at one request
    per service time). After each probe it fits how the share of requests above the limit hangs on
    the rate, and tries the highest rate that the time left could show to hold. A rate holds by what
    was measured at it and at rates up to 3 % higher, never by the forecast or the fit.

    Args:
        run: Answers a batch of 1 to ``batcher.max_batch`` samples; blocks until it is done.
        samples: Real samples that the requests rotate over: by input name, of shape (1, ...).
        batcher: Which requests go together.
        limit_ms: On the p99 of the latency from the scheduled arrival.
        settings: How long to search, and how closely.
        clock: The wall clock, unless another is given.
        minder: Has disturbed blocks served again; without one none is.

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
        forecast = _forecast(curve, batcher, limit_ms, settings)
        ladder = Ladder(batcher, limit_ms, settings.tolerance, curve[1] / 1e9, forecast)
        return _told(ladder, *_search(run, samples, ladder, settings, deadline, clock, minder))


def _search(
    run: Run,
    samples: Sequence[Arrays],
    ladder: Ladder,
    settings: RateSettings,
    deadline: int,
    clock: Clock,
    minder: Minder | None = None,
    most_probes: float = math.inf,
) -> tuple[Ended, list[Probe], list[Times]]:
    """How it ended, the probes in order, and what their requests saw."""
    probes: list[Probe] = []
    streams: list[Times] = []
    while len(probes) < most_probes:
        left_s = (deadline - clock.now()) / 1e9
        rate = next_rate(probes, ladder, left_s)
        if isinstance(rate, str):
            return rate, probes, streams
        load = plan(
            rate,
            ladder.limit_ms,
            share_s=share_s(probes, rate, left_s),
            left_s=left_s,
            most=settings.most_requests,
            seed=settings.seed + len(probes),
        )
        if load is None:
            break
        seen = drive(run, samples, ladder.batcher, load, clock, minder, deadline)
        probes.append(judge(load, seen, ladder.limit_ms))
        streams.append(counted(seen, ladder.limit_ms))
    return "time", probes, streams


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
) -> Tail | None:
    """The tail of the same queue in virtual time, where batches always take their typical time.

    Only a place to begin: all that is claimed is measured.
    """
    virtual = VirtualTime()
    sizes, times = list(curve_ns), list(curve_ns.values())

    def run(batch: Arrays) -> None:
        virtual.now_ns += round(float(np.interp(len(batch["x"]), sizes, times)))

    ladder = Ladder(batcher, limit_ms, settings.tolerance, curve_ns[1] / 1e9, None)
    blank = [{"x": np.empty((1, 0))}]
    brief = replace(settings, most_requests=min(_FORECAST_REQUESTS, settings.most_requests))
    _, probes, _ = _search(
        run, blank, ladder, brief, _ENDLESS_NS, virtual.clock, most_probes=_FORECAST_PROBES
    )
    found = ladder.tail(probes)
    return None if found is None else replace(found, above=0.0)  # of requests that nobody sent


def _told(
    ladder: Ladder, ended: Ended, probes: Sequence[Probe], streams: Sequence[Times]
) -> Highest:
    held = evidence(probes)
    shown = held.probes if held else sorted(probes, key=lambda probe: probe.rate_per_s)[:1]
    latencies = [stream for probe, stream in zip(probes, streams, strict=True) if probe in shown]
    pooled = np.concatenate([np.empty(0, dtype=np.int64), *latencies])
    return Highest(
        limit_ms=ladder.limit_ms,
        rate_per_s=held.rate_per_s if held else None,
        fails_at_per_s=_fails_at(ladder, probes, held),
        bound_ms=float(np.sort(pooled)[held.rank - 1]) / 1e6 if held and held.rank else None,
        ended=ended,
        probes=tuple(probes),
        service_ms=ladder.service_s * 1e3,
        shown=next(iter(shown), None),
        latencies_ns=pooled,
    )


def _fails_at(ladder: Ladder, probes: Sequence[Probe], held: Evidence | None) -> float | None:
    least = held.rate_per_s if held else 0.0
    failed = [p.rate_per_s for p in probes if p.hopeless and p.rate_per_s > least]
    model = ladder.tail(probes)
    if model is not None and model.above > 0:
        failed.append(max(least, model.at_most_per_s))
    return min(failed, default=None)
