"""Stage results turned into a trial's outcome."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autotune.engine import judge
from autotune.engine.execute import Result
from autotune.engine.graph import Handle
from autotune.engine.plan import Plan
from autotune.measure.accuracy import paired_difference
from autotune.measure.cost import cost_estimate
from autotune.store.artifacts import Store
from autotune.target import Target
from autotune.trial import Completed, Estimate, Failed, Measurement, Outcome


@dataclass(frozen=True)
class Bench:
    """What every outcome is made with: the store, the metrics' words, the baseline's accuracy.

    ``baseline`` is the stage of the given model's accuracy, which drops are told against.
    """

    store: Store
    words: tuple[str, ...]
    baseline: Handle


def outcome(
    plan: Plan, accuracy: Handle, latency: Handle, target: Target, bench: Bench
) -> Outcome | None:
    """How a trial of these stages ended; None while something it needs is under way."""
    ended = [h.result for h in (accuracy, latency) if h.result is not None]
    broken = next((result for result in ended if not result.ok), None)
    if broken is not None:
        return Failed(broken.stage, broken.error, broken.traceback)
    if len(ended) < 2 or bench.baseline.result is None:
        return None
    artifact = plan.latency.inputs[0].key
    return _completed(ended[0], ended[1], artifact, target, _drop(ended[0], bench))


def fatal(handles: Iterable[Handle]) -> str:
    """What broke the machine itself (a full disk); "" where nothing did."""
    results = [handle.result for handle in handles if handle.result is not None]
    return next((result.error for result in results if result.fatal), "")


def _completed(
    accuracy: Result,
    latency: Result,
    artifact: str,
    target: Target,
    drop: Mapping[str, Estimate],
) -> Outcome:
    values = {**columns(accuracy), **drop, **latency_columns(latency, target)}
    values["size_bytes"] = Estimate(float(accuracy.facts["size_bytes"]))
    values |= {word: Estimate(float(n)) for word, n in accuracy.facts["network"].items()}
    facts = {
        "runtime": accuracy.facts["runtime"],
        "artifact": artifact,
        "check": accuracy.facts["check"],
        **{k: v for k, v in latency.facts.items() if k != "columns"},
    }
    return completed(Measurement(values, facts, latency.key))


def completed(measurement: Measurement) -> Completed:
    """The outcome, with the reason where a server has no rate that meets its limit."""
    rate = measurement.values.get("server_rate_per_s")
    short = rate is not None and not rate.value
    return Completed(measurement, reason=measurement.facts["server"]["reason"] if short else "")


def latency_columns(latency: Result, target: Target) -> dict[str, Estimate]:
    """What a latency stage measured, with the cost where the target has a price."""
    values = columns(latency)
    return values | priced(values, target)


def priced(values: Mapping[str, Estimate], target: Target) -> dict[str, Estimate]:
    """What a million samples cost on the target at a server's rate, else at the throughput.

    Nothing where the target has no price, and where no rate is known to hold.
    """
    price = target.lane_price_per_hour
    throughput = values.get("server_rate_per_s") or values.get("throughput_per_s")
    if price is None or throughput is None or not throughput.value:
        return {}
    return {"cost_usd_per_million": cost_estimate(price, throughput)}


def _drop(accuracy: Result, bench: Bench) -> dict[str, Estimate]:
    """How far each metric lies below the baseline's, paired over the test samples (95 %)."""
    ours, baseline = bench.store.open(accuracy.key), bench.baseline.result
    theirs = bench.store.open(baseline.key) if baseline is not None and baseline.ok else None
    drops: dict[str, Estimate] = {}
    if ours is None or theirs is None:
        return drops
    for word in bench.words:
        mine, given = judge.scores(ours, word), judge.scores(theirs, word)
        if mine is not None and given is not None:
            drops[f"{word}_drop"] = paired_difference(given, mine)
    return drops


def columns(result: Result) -> dict[str, Estimate]:
    """What a stage measured, by column."""
    return {
        column: Estimate(float(e["value"]), e.get("low"), e.get("high"))
        for column, e in result.facts["columns"].items()
    }
