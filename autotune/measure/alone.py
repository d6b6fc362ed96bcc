"""The instrument by itself: the latencies of anything that can be called."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from autotune.measure import loop, reference, statistics
from autotune.measure.loop import LoopSettings, Timing
from autotune.trial import Estimate

T = TypeVar("T")
DISTINCT = 16
"""With fewer inputs a cache may hold them all, as it would not in use (measurement.md, 2)."""
_ROWS = ("p50", "p90", "p99", "mean")


@dataclass(frozen=True, eq=False)
class Latencies:
    """What was measured of a callable.

    Attributes:
        p50, p90, p99, mean: Latencies of one request in ms, with their 95 % intervals.
        per_second: Samples per second of one request after the other.
        timing: The samples in their order, and how they came about.
        warnings: What a reader of the figures must know, one sentence each.
    """

    p50: Estimate
    p90: Estimate
    p99: Estimate
    mean: Estimate
    per_second: Estimate
    timing: Timing
    warnings: tuple[str, ...]


def latency(
    call: Callable[..., object],
    inputs: Sequence[T] | None = None,
    *,
    seconds: float = 10.0,
    batch: int = 1,
) -> Latencies:
    """Time ``call`` as a trial is timed: warmed up, the collector off, disturbed blocks again.

    It ends once the median is known within 1 % and the p99 has an upper bound; then, or when the
    time is up. Nothing is pinned: start the process on the cores that it is to have.

    Args:
        call: Handles one request and returns when it is done; called with one of ``inputs``.
        inputs: Requests, of which each is handed over in its turn; None: ``call`` takes none.
        seconds: The most that may be spent on samples; warm-up takes up to 2 s before.
        batch: Samples in one request, for the rate.

    Raises:
        ValueError: There are no inputs, or the time or the batch is not above zero.
        MachineError: The clock is too coarse.
    """
    if inputs is not None and not len(inputs):
        raise ValueError("inputs is empty: give the requests to be handed to the callable")
    if not seconds > 0 or batch < 1:
        raise ValueError(f"seconds and batch are above zero, not {seconds} and {batch}")
    settings = LoopSettings(max_s=seconds, tail_below_ms=math.inf, tail_max_s=seconds)
    timing = loop.time_calls(_request(call, inputs), settings=settings, watch=reference.watch())
    columns = statistics.latency_columns(timing.samples_ns, batch)
    found = {word: columns[f"latency_{word}_ms"] for word in _ROWS}
    warnings = tuple(_warnings(timing, found, None if inputs is None else len(inputs)))
    return Latencies(
        **found, per_second=columns["throughput_per_s"], timing=timing, warnings=warnings
    )


def table(found: Latencies) -> str:
    """The figures as lines of text: value, and 95 % interval where it is known."""
    rows = [(word, getattr(found, word), " ms") for word in _ROWS]
    lines = [_row(word, estimate, unit) for word, estimate, unit in rows]
    lines.append(_row("rate", found.per_second, " /s"))
    timing = found.timing
    lines.append(
        f"{len(timing.samples_ns)} samples after {timing.warmup_calls + 1} calls to warm up; "
        f"the first took {timing.first_call_ns / 1e6:.4g} ms"
    )
    return "\n".join([*lines, *(f"warning: {words}" for words in found.warnings)])


def _request(call: Callable[..., object], inputs: Sequence[T] | None) -> Callable[[int], object]:
    if inputs is None:
        return lambda _: call()
    count = len(inputs)
    return lambda index: call(inputs[index % count])


def _warnings(timing: Timing, found: Mapping[str, Estimate], inputs: int | None) -> list[str]:
    told = (
        (timing.noisy, "the samples are disturbed: something else ran, or the clock rate changed"),
        (timing.group > 1, f"a sample is the mean of {timing.group} calls: one is too short"),
        (not timing.stable, "the calls had not settled when the warm-up was cut off"),
        (found["p99"].high is None, "too few independent samples to bound the p99: more seconds"),
        (
            inputs is not None and inputs < DISTINCT,
            f"{inputs} distinct inputs may stay in a cache: give {DISTINCT} or more",
        ),
    )
    return [words for holds, words in told if holds]


def _row(word: str, estimate: Estimate, unit: str) -> str:
    low, high = (
        "unknown" if bound is None else f"{bound:.4g}" for bound in (estimate.low, estimate.high)
    )
    return f"{word:<5}{estimate.value:>10.4g}{unit}   95 %: {low} to {high}"
