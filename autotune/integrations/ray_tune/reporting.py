"""A trial as the metrics that Tune is told, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from autotune.slo import Direction
from autotune.trial import Completed, Estimate, Failed, Measurement, Outcome, Rejected, Trial


def row(trial: Trial, objectives: Mapping[str, Direction]) -> dict[str, Any]:
    """What Tune is told of a finished trial.

    The columns of ``trials.csv`` with their ``_low`` and ``_high`` where they have an interval,
    ``outcome``, ``reason``, ``stage_seconds`` (shared stages included), ``executed`` (the stages
    that ran for this trial, comma-separated) and ``configuration`` (equal where the active knobs
    are).

    Tune has no word for a point without a value. A trial that did not complete gets the worst
    value, an infinite one, in every objective: any search algorithm and ``get_best_result`` can
    rank it, and nobody can take it for a measurement.
    """
    assert trial.outcome is not None
    measured = trial.measurement.values if trial.measurement else {}
    missing = {} if trial.measurement else {c: _worst(d) for c, d in objectives.items()}
    return {
        "outcome": trial.outcome.word,
        "reason": trial.outcome.reason,
        "configuration": trial.configuration.key,
        **missing,
        **_columns(measured),
        "stage_seconds": sum(trial.stage_seconds.values()),
        "executed": ",".join(trial.executed),
    }


def outcome(report: Mapping[str, Any] | None, objectives: Mapping[str, Direction]) -> Outcome:
    """How a trial ended, told from what was reported last; only the objectives are kept.

    A report without ``outcome``, of a trainable of the user's own, counts as completed where it
    has every objective.
    """
    if not report:
        return Failed("ray tune", "the trial ended without a report")
    reason = str(report.get("reason", ""))
    word = report.get("outcome", "completed")
    if word == "rejected":
        return Rejected(reason)
    if word != "completed":
        stage, _, error = reason.partition(": ")
        return Failed(stage, error)
    lacking = [c for c in objectives if not math.isfinite(report.get(c, math.nan))]
    if lacking:
        return Failed("ray tune", f"no finite value reported for {', '.join(lacking)}")
    bounds = {c: (report.get(f"{c}_low"), report.get(f"{c}_high")) for c in objectives}
    return Completed(Measurement({c: Estimate(float(report[c]), *bounds[c]) for c in objectives}))


def _worst(direction: Direction) -> float:
    return math.inf if direction == "min" else -math.inf


def _columns(measured: Mapping[str, Estimate]) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, estimate in measured.items():
        columns[name] = estimate.value
        if estimate.low is not None:
            columns[f"{name}_low"] = estimate.low
        if estimate.high is not None:
            columns[f"{name}_high"] = estimate.high
    return columns
