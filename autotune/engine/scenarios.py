"""A loaded model under one of the load scenarios, in the measuring process (section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from autotune.measure import blocks, loop, offline, rate, statistics
from autotune.measure.batcher import Batcher
from autotune.measure.blocks import LEAST_OVERHEADS, Block, clock_overhead_ns
from autotune.measure.loop import LoopSettings
from autotune.measure.memory import rss_bytes
from autotune.measure.reference import Disturbance, Watch
from autotune.measure.server import Clock, Minder
from autotune.trial import Estimate

if TYPE_CHECKING:
    from autotune.contracts import Arrays

    Run = Callable[[Arrays], object]

T = TypeVar("T")
CONSISTENT = 1.25
"""A mean so many times the median says that something else ran on the lane."""
_LATE = 0.05
"""Batches that the instrument itself begins later than this share of the limit are told of."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What one scenario saw.

    Attributes:
        columns: Trial columns.
        samples_ns: Latencies of single requests (offline: times between answers), in their order.
        facts: JSON values: how it went.
        warnings: What a reader of the figures must know, one sentence each.
        bursts_ms: What the reference took after each block.
        calls: Requests that the model answered while ``grown_bytes`` were added to its memory.
        grown_bytes: See there; the first blocks, or requests, are not counted.
        typical_s: What a request takes.
    """

    columns: Mapping[str, Estimate]
    samples_ns: NDArray[np.int64]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...]
    bursts_ms: Sequence[float]
    calls: int
    grown_bytes: int
    typical_s: float


def single_stream(
    run: Run, inputs: Sequence[Arrays], batch: int, settings: LoopSettings, watch: Watch
) -> Seen:
    """One request after the other: latency percentiles, and the throughput of one stream."""
    count = len(inputs)
    timing = loop.time_calls(lambda i: run(inputs[i % count]), settings=settings, watch=watch)
    columns = statistics.latency_columns(timing.samples_ns, batch)
    partial = _partial(timing.samples_ns, columns["latency_p50_ms"])
    counted = timing.blocks[1:]
    return Seen(
        columns=columns,
        samples_ns=timing.samples_ns,
        facts={
            **timing.facts(),
            "noisy": timing.noisy or not _consistent(timing.samples_ns),
            "partial": partial,
        },
        warnings=(_slow(len(timing.samples_ns), timing.samples_ns, settings.max_s),) * partial,
        bursts_ms=[block.beside.after_ms for block in timing.blocks if block.beside],
        calls=timing.group * sum(len(block.samples) for block in counted),
        grown_bytes=counted[-1].rss_bytes - timing.blocks[0].rss_bytes if counted else 0,
        typical_s=float(np.median(timing.samples_ns)) / 1e9,
    )


def flood(
    run: Run, inputs: Sequence[Arrays], batch: int, settings: LoopSettings, watch: Watch
) -> Seen:
    """The Offline scenario: samples a second where the next batch is always there."""
    count = len(inputs)
    asked = offline.OfflineSettings(
        settings.warmup_max_s, settings.min_s, settings.max_s, settings.precision
    )
    before = rss_bytes()
    told, beside, again = _calm(
        lambda: offline.flood(lambda i: run(inputs[i % count]), batch, asked), watch
    )
    partial = _partial(told.intervals_ns, told.throughput_per_s)
    block = Block(told.intervals_ns, beside, again=again)
    return Seen(
        columns={"throughput_per_s": told.throughput_per_s},
        samples_ns=told.intervals_ns,
        facts={**told.facts(), **_around(block), "partial": partial},
        warnings=(_slow(len(told.intervals_ns), told.intervals_ns, settings.max_s),) * partial,
        bursts_ms=[beside.after_ms],
        calls=len(told.intervals_ns),
        grown_bytes=rss_bytes() - before,
        typical_s=float(np.median(told.intervals_ns)) / 1e9,
    )


def server(
    run: Run,
    singles: Sequence[Arrays],
    batcher: Batcher,
    p99_ms: float,
    settings: LoopSettings,
    watch: Watch,
    clock: Clock | None = None,
) -> Seen:
    """The Server scenario: the highest rate that holds the limit, and the latencies under it.

    Where no rate does, the rate is 0, and the latencies are those of the lowest rate tried: by the
    intervals of ``Estimate``, 0 is what is known to hold, and the rate that failed is the bound.

    Args:
        run: Answers a batch of 1 to ``batcher.max_batch`` samples.
        singles: Samples, each of shape (1, ...) by input name.
        batcher: Which requests go together.
        p99_ms: The limit on the p99, from the scheduled arrival.
        settings: ``tail_max_s`` is the time of the whole search.
        watch: Looks at the machine; disturbed blocks are served again.
        clock: The wall clock, unless another is given.
    """
    asked = rate.RateSettings(max_s=settings.tail_max_s)
    before, minder = rss_bytes(), Minder(watch)
    found = rate.highest(run, singles, batcher, p99_ms, asked, clock, minder)
    return Seen(
        columns=_rate_columns(found),
        samples_ns=found.latencies_ns,
        facts={
            **_minded(minder),
            "samples": len(found.latencies_ns),
            "gave_up": False,
            "partial": found.ended == "time",
            "server": _served(found, batcher),
        },
        warnings=_rate_warnings(found),
        bursts_ms=[beside.after_ms for beside in minder.blocks],
        calls=sum(round(probe.answered / probe.mean_batch) for probe in found.probes),
        grown_bytes=rss_bytes() - before,
        typical_s=found.service_ms / 1e3,
    )


def _rate_columns(found: rate.Highest) -> dict[str, Estimate]:
    held = found.rate_per_s or 0.0
    columns = {"server_rate_per_s": Estimate(held, held, found.fails_at_per_s)}
    if found.shown is None:  # not one probe fitted into the time: a request alone is all there is
        return columns | {"latency_p50_ms": Estimate(found.service_ms)}
    latencies_ms = found.latencies_ns / 1e6
    for word, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        columns[f"latency_{word}_ms"] = statistics.quantile(latencies_ms, q)
    tail = columns["latency_p99_ms"]
    told = found.shown.bound_ms if found.bound_ms is None else found.bound_ms
    bound = None if told is None else max(told, tail.value)  # a run that gave up has no bound
    columns["latency_p99_ms"] = Estimate(tail.value, tail.low, bound)
    return columns | {"mean_batch": Estimate(found.shown.mean_batch)}


def _served(found: rate.Highest, batcher: Batcher) -> dict[str, Any]:
    return {
        **asdict(batcher),
        "p99_limit_ms": found.limit_ms,
        "ended": found.ended,
        "reason": found.reason,
        "rate_per_s": found.rate_per_s,
        "fails_at_per_s": found.fails_at_per_s,
        "latencies_at_per_s": found.shown.rate_per_s if found.shown else None,
        "service_ms": found.service_ms,
        "probes": [asdict(probe) for probe in found.probes],
    }


def _rate_warnings(found: rate.Highest) -> tuple[str, ...]:
    told = [] if found.ended == "found" else [found.reason]
    if found.shown is not None and found.shown.late_p99_ms > _LATE * found.limit_ms:
        told.append(f"batches began {found.shown.late_p99_ms:.2g} ms (p99) later than they could")
    overhead_ms = clock_overhead_ns() / 1e6
    if found.service_ms < LEAST_OVERHEADS * overhead_ms:
        told.append(
            f"the clock is too coarse: it tells {overhead_ms:.2g} ms, "
            f"and a request takes {found.service_ms:.2g} ms"
        )
    return tuple(told)


def _calm(work: Callable[[], T], watch: Watch) -> tuple[T, Disturbance, bool]:
    """As ``_beside``, once more where it was disturbed; whether there was such a second time."""
    result, beside = _beside(work, watch)
    return (*_beside(work, watch), True) if beside.counts else (result, beside, False)


def _beside(work: Callable[[], T], watch: Watch) -> tuple[T, Disturbance]:
    """What ``work`` gives, and what went on beside it."""
    mark = watch.mark(watch.look())
    result = work()
    return result, watch.beside(mark, watch.look)


def _around(block: Block) -> dict[str, Any]:
    """The facts of a scenario that is one block, of its second time where it had two."""
    facts = blocks.facts([block], noisy=block.disturbed)
    return {"samples": len(block.samples), "noisy": block.disturbed, "gave_up": False, **facts}


def _minded(minder: Minder) -> dict[str, Any]:
    """The facts of the blocks of a server's time."""
    seen = [Block(np.empty(0, dtype=np.int64), beside) for beside in minder.blocks]
    facts = blocks.facts(seen, noisy=minder.noisy)
    return {"noisy": minder.noisy, **facts, **({"retries": minder.retries} if seen else {})}


def _consistent(samples_ns: NDArray[np.int64]) -> bool:
    """Whether batch over p50 and samples per second agree (measurement.md, section 5)."""
    return bool(samples_ns.mean() <= CONSISTENT * np.median(samples_ns))


def _partial(samples_ns: NDArray[np.int64], estimate: Estimate) -> bool:
    """Whether the model is so slow that its few samples tell no interval."""
    return estimate.high is None and len(samples_ns) < loop.RACING_CALLS


def _slow(count: int, samples_ns: NDArray[np.int64], max_s: float) -> str:
    took = float(np.median(samples_ns)) / 1e9
    return (
        f"partial: of requests that take {took:.3g} s, {count} fitted into the "
        f"{math.ceil(max_s * 10) / 10:g} s of the measurement, too few for an interval"
    )
