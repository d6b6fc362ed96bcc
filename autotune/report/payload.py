"""What the page's scripts need to know of a run, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotune.report import profile
from autotune.report.words import Measure, measures, scenario
from autotune.runfolder import RunData, front
from autotune.runfolder.tables import UNFINISHED, knobs
from autotune.slo import SLO, Limit, parse
from autotune.trial import Trial


def payload(run: RunData) -> dict[str, Any]:
    """The run for the browser: every trial with its knobs and figures, the limits as given."""
    best = front(run)
    found = measures(run)
    slo = parse(((sentence, "") for sentence in run.slo), run.metrics)
    return {
        "metrics": [m.column for m in found if m.column in run.metrics],
        "measures": [vars(m) for m in found],
        "knobs": knobs(run.trials),
        "limits": _limits(slo, run),
        "objective": _objective(slo, run, found),
        "figure": scenario(run).figure.column,
        "pick": (run.pick or {}).get("trial"),
        "profile": profile.chart(profile.sides(run)),
        "trials": [_trial(trial, trial.number in best) for trial in run.trials],
    }


def _trial(trial: Trial, on_front: bool) -> dict[str, Any]:
    measurement = trial.measurement
    values = measurement.values if measurement else {}
    return {
        "n": trial.number,
        "outcome": trial.outcome.word if trial.outcome else UNFINISHED,
        "reason": trial.outcome.reason if trial.outcome else "",
        "origin": trial.origin,
        "front": on_front,
        "k": dict(trial.configuration),
        "v": {column: [e.value, e.low, e.high] for column, e in values.items()},
        "s": round(sum(trial.stage_seconds.values()), 4),
        "facts": _flat(measurement.facts) if measurement else {},
    }


def _flat(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts in one line each: ``kernels`` -> ``int8 21, fp32 3``."""
    return {name: _line(value) for name, value in facts.items()}


def _line(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_line(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_line(v) for v in value)
    return str(value)


def _limits(slo: SLO, run: RunData) -> dict[str, Any]:
    """The limits, those that the page lets its reader change apart from the rest."""
    single = scenario(run).kind == "single_stream"  # a server's rate was found under its limit
    columns = {word: f"latency_{word}_ms" for word in ("p50", "p99")}
    latency = {word: _bound(slo, column) if single else None for word, column in columns.items()}
    drops = {name: _drop(slo, name, run.metrics[name] == "max") for name in run.metrics}
    kept = [
        {
            "column": limit.quantity.column,
            "at_most": limit.at_most,
            "bound": limit.bound,
            "relative": limit.relative,
            "text": limit.text,
        }
        for limit in slo.limits
        if not _editable(limit) or not (single or limit.quantity.column in run.metrics)
    ]
    return {**latency, "drops": drops, "kept": kept}


def _editable(limit: Limit) -> bool:
    if limit.quantity.column in ("latency_p50_ms", "latency_p99_ms"):
        return not limit.relative
    return limit.relative == "points" and limit.quantity.column == limit.quantity.word


def _bound(slo: SLO, column: str) -> float | None:
    """The tightest of the limits on a latency."""
    bounds = [x.bound for x in slo.limits if _editable(x) and x.quantity.column == column]
    return min(bounds, default=None)


def _drop(slo: SLO, metric: str, more_is_better: bool) -> float | None:
    """The smallest allowed worsening of a metric against the baseline, in points (0.01)."""
    sign = -100.0 if more_is_better else 100.0
    bounds = [x.bound * sign for x in slo.limits if _editable(x) and x.quantity.column == metric]
    return round(min(bounds), 9) if bounds else None


def _objective(slo: SLO, run: RunData, found: tuple[Measure, ...]) -> str:
    """The column that decides under the limits: as said, else the cost, else the speed."""
    columns = [m.column for m in found]
    cost = ["cost_usd_per_million"] if "cost_usd_per_million" in run.objectives else []
    said = [slo.objective.column] if slo.objective else []
    wanted = [*said, *cost, scenario(run).figure.column, *columns]
    return next((column for column in wanted if column in columns), "")
