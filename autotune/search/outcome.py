"""Stage results turned into a trial's outcome."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.engine import judge
from autotune.engine.execute import Result
from autotune.measure.accuracy import paired_difference
from autotune.measure.cost import cost_estimate
from autotune.target import Target
from autotune.trial import Completed, Estimate, Failed, Measurement, Outcome


def failed(result: Result) -> Failed:
    """The outcome of a trial one of whose stages failed."""
    return Failed(result.stage, result.error, result.traceback)


def completed(
    accuracy: Result,
    latency: Result,
    artifact: str,
    target: Target,
    drop: Mapping[str, Estimate],
) -> Outcome:
    """The outcome of a trial whose stages all ended well; ``artifact`` is what would be shipped."""
    values = {**_columns(accuracy.facts["columns"]), **drop, **_columns(latency.facts["columns"])}
    values["size_bytes"] = Estimate(float(accuracy.facts["size_bytes"]))
    price = target.lane_price_per_hour
    if price is not None:
        values["cost_usd_per_million"] = cost_estimate(price, values["throughput_per_s"])
    facts = {
        "runtime": accuracy.facts["runtime"],
        "artifact": artifact,
        "check": accuracy.facts["check"],
        **{k: v for k, v in latency.facts.items() if k != "columns"},
    }
    return Completed(Measurement(values, facts, latency.key))


def drop(word: str, ours: Path, baseline: Path | None) -> dict[str, Estimate]:
    """How far a metric lies below the baseline's, paired over the test samples (95 %)."""
    mine = judge.scores(ours)
    theirs = judge.scores(baseline) if baseline else None
    if mine is None or theirs is None:
        return {}
    found = paired_difference(mine, theirs)
    return {f"{word}_drop": Estimate(-found.value, _minus(found.high), _minus(found.low))}


def _columns(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    return {
        column: Estimate(float(e["value"]), e.get("low"), e.get("high"))
        for column, e in facts.items()
    }


def _minus(bound: float | None) -> float | None:
    return None if bound is None else -bound
