"""Whether a configuration can still matter, told from the latency of its untrained structure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from autotune.engine.execute import Result
from autotune.front import non_dominated
from autotune.search.outcome import latency_columns
from autotune.slo import QUANTITIES, Direction
from autotune.spec import Spec
from autotune.target import Target
from autotune.trial import Estimate, Stopped, Trial

WORTH = 3.0
"""A structure is measured first where the training would cost so many times as much."""


def hopeless(
    proxy: Result,
    target: Target,
    trials: Sequence[Trial],
    objectives: Mapping[str, Direction],
    metrics: Collection[str],
) -> Stopped | None:
    """Why training is not worth its while, or None.

    It is not where a completed trial dominates the configuration at its best imaginable: every
    metric at the best that any trial of the run has reached, every measured objective at the better
    end of its 95 % interval.
    """
    if proxy.facts.get("server", {}).get("ended") == "no rate":
        return Stopped(f"whatever it learned, {proxy.facts['server']['reason']}")
    measured = latency_columns(proxy, target)
    rate = measured.get("server_rate_per_s")
    if rate is not None and rate.high is None:  # the time was up before a rate failed
        return None
    best: dict[str, float] = {}
    for column, direction in objectives.items():
        if column in metrics:
            seen = [t.measurement[column] for t in trials if t.measurement is not None]
            if not seen:
                return None
            best[column] = max(seen) if direction == "max" else min(seen)
        elif column in measured:
            best[column] = _better_end(measured[column], direction)
        else:
            return None
    rival = _dominating(best, trials, objectives)
    if rival is None:
        return None
    told = ", ".join(f"{column} {value:.4g}" for column, value in best.items())
    return Stopped(f"trial {rival.number} is better than it could become ({told})", best)


def counting(spec: Spec) -> dict[str, Direction]:
    """Every column that a pick may hang on: the objectives, and what the SLO limits.

    A server's p99 is not among them: its rate is the highest that keeps the limit.
    """
    limited = [limit.quantity for limit in spec.slo.limits]
    if spec.scenario.kind == "server":
        limited = [quantity for quantity in limited if quantity != QUANTITIES["latency_p99"]]
    limited += [spec.slo.objective] if spec.slo.objective else []
    return {**spec.objectives, **{q.column: q.direction for q in limited}}


def _better_end(estimate: Estimate, direction: Direction) -> float:
    end = estimate.high if direction == "max" else estimate.low
    return estimate.value if end is None else end


def _dominating(
    best: Mapping[str, float], trials: Sequence[Trial], objectives: Mapping[str, Direction]
) -> Trial | None:
    maximise = [direction == "max" for direction in objectives.values()]
    ours = [best[column] for column in objectives]
    for trial in trials:
        found = trial.measurement
        if found is None or any(column not in found.values for column in objectives):
            continue
        theirs = [found[column] for column in objectives]
        if not non_dominated(np.array([ours, theirs]), maximise)[0]:
            return trial
    return None
