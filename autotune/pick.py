"""The choice under limits: the best trial that meets the SLO and is not slower than the baseline.

Latencies are held against their limits by the upper end of their 95 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autotune.checks import LATENCIES, Check, compare
from autotune.errors import NothingFits, UserError
from autotune.slo import QUANTITIES, SLO, Limit, Quantity
from autotune.trial import Estimate, Trial, doubt

P50 = QUANTITIES["latency_p50"]
RATE = QUANTITIES["server_rate"]
NOT_SLOWER = "not slower than the baseline"
SERVES = "a rate above 0"
Estimates = Mapping[str, Estimate]


@dataclass(frozen=True)
class Pick:
    """The answer, with its evidence.

    Attributes:
        trial: Its number.
        checks: Every limit, all met, and ``NOT_SLOWER`` where a baseline has the same batch.
        objective: The word of what was optimised among the trials that meet the limits.
        value: The trial's value of it.
        baseline: The baseline's trial at the same batch and target; None where there is none.
        speedup: How many times as fast it is as that baseline.
        warnings: Why its latencies or the baseline's are to be doubted, a sentence each.
        figure: What speeds are told by: the p50; under a server's load the rate; offline samples/s.
    """

    trial: int
    checks: tuple[Check, ...]
    objective: str
    value: float
    baseline: int | None
    speedup: float | None
    warnings: tuple[str, ...] = ()
    figure: str = P50.word


@dataclass(frozen=True)
class Miss:
    """The trial that came nearest to meeting every limit; ``violation`` is its worst, relative."""

    trial: int
    checks: tuple[Check, ...]
    violation: float


class NothingMeets(NothingFits):
    """No completed trial meets every limit; ``miss`` is the nearest, None where none completed."""

    def __init__(self, message: str, miss: Miss | None = None) -> None:
        super().__init__(message)
        self.miss = miss


@dataclass(frozen=True)
class _Verdict:
    """A candidate under all limits; ``violation`` is its worst: a share of the bound."""

    trial: Trial
    checks: tuple[Check, ...]
    violation: float


def pick(trials: Sequence[Trial], slo: SLO, default_objective: Quantity) -> Pick:
    """The best completed trial that meets every limit and is not slower than the baseline.

    The best of ``slo.objective`` (or the default one). Trials that cannot be told from the best
    (an equal value; for a latency, intervals that hold each other's values) are ordered by p50 (or
    what else tells a speed in the run's load scenario), then by number.

    Raises:
        NothingMeets: No completed trial meets every limit.
        UserError: The objective was measured in none that does.
    """
    candidates = [trial for trial in trials if trial.measurement is not None]
    figure = _figure(candidates)
    verdicts = [_verdict(trial, candidates, slo, figure) for trial in candidates]
    meeting = {v.trial.number: v for v in verdicts if all(check.met for check in v.checks)}
    if not meeting:
        raise _nothing_meets(verdicts, figure)
    objective = slo.objective or default_objective
    best = _best([v.trial for v in meeting.values()], objective, figure)
    baseline = _baseline(best, candidates)
    return Pick(
        trial=best.number,
        checks=meeting[best.number].checks,
        objective=objective.word,
        value=_values(best)[objective.column].value,
        baseline=baseline.number if baseline else None,
        speedup=_speedup(baseline, best, figure),
        warnings=_doubts(best if baseline is None else baseline, best),
        figure=figure.word,
    )


# ---- the best ------------------------------------------------------------------------------------


def _best(trials: Sequence[Trial], objective: Quantity, figure: Quantity) -> Trial:
    column = objective.column
    measured = [t for t in trials if column in _values(t)]
    if not measured:
        raise UserError(
            f"{objective.word} is to be optimised, but no trial that meets the limits has it",
            remedy="give the target a price_per_hour"
            if objective.word == "cost"
            else "choose another objective",
        )
    sign = 1 if objective.direction == "min" else -1
    first = min(measured, key=lambda t: (sign * _values(t)[column].value, t.number))
    tied = [t for t in measured if t is first or _tied(_values(first), _values(t), column)]
    return min(tied, key=lambda t: (slowness(t, figure), t.number))


def _tied(a: Estimates, b: Estimates, column: str) -> bool:
    one, other = a[column], b[column]
    if column not in LATENCIES:
        return one.value == other.value
    return _holds(one, other.value) and _holds(other, one.value)


def _holds(estimate: Estimate, value: float) -> bool:
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return low <= value <= high


def _figure(candidates: Sequence[Trial]) -> Quantity:
    """What tells one speed from another in this run: its load scenario's own figure."""
    measured = {column for trial in candidates for column in _values(trial)}
    return next((q for q in (RATE, P50, QUANTITIES["throughput"]) if q.column in measured), P50)


def _speedup(baseline: Trial | None, trial: Trial, figure: Quantity) -> float | None:
    given = None if baseline is None else _values(baseline).get(figure.column)
    found = _values(trial).get(figure.column)
    if given is None or found is None or not (given.value and found.value):
        return None
    ratio = given.value / found.value
    return ratio if figure.direction == "min" else 1 / ratio


def _doubts(*trials: Trial) -> tuple[str, ...]:
    told = {t.number: doubt(t) for t in trials}
    return tuple(words for words in told.values() if words)


# ---- limits --------------------------------------------------------------------------------------


def _verdict(trial: Trial, candidates: Sequence[Trial], slo: SLO, figure: Quantity) -> _Verdict:
    alike = _baseline(trial, candidates)
    reference = alike or _any_baseline(candidates)
    judged = [_judge(limit, trial, reference) for limit in slo.limits]
    rate = _values(trial).get(RATE.column)
    if rate is not None and not rate.value:
        detail = "no rate of requests was found to meet the limit on the p99"
        judged.append((Check(SERVES, RATE.column, 0.0, 0.0, False, detail), 0.0))
    if alike is not None and figure.column in _values(alike) and trial.origin != "baseline":
        judged.append(_judge_speed(trial, alike, figure))
    elif reference is not None and trial.origin != "baseline":
        batch = trial.configuration.get("batch")
        detail = f"the baseline was not measured at batch {batch}"
        judged.append((Check(NOT_SLOWER, figure.column, None, math.nan, False, detail), math.inf))
    checks = tuple(check for check, _ in judged)
    return _Verdict(trial, checks, max((violation for _, violation in judged), default=0.0))


def _judge(limit: Limit, trial: Trial, baseline: Trial | None) -> tuple[Check, float]:
    """The limit held against the trial, and by which share of the bound it is missed."""
    q = limit.quantity
    reference = None if baseline is None else _values(baseline).get(q.column)
    if limit.relative and reference is None:
        found = _values(trial).get(q.column)
        detail = f"the baseline's {q.word} was not measured"
        value = None if found is None else found.value
        return Check(limit.text, q.column, value, math.nan, False, detail), math.inf
    bound = limit.value(None if reference is None else reference.value)
    return compare(limit.text, q, trial, bound, at_most=limit.at_most, pessimistic=True)


def _judge_speed(trial: Trial, baseline: Trial, figure: Quantity) -> tuple[Check, float]:
    bound, at_most = _values(baseline)[figure.column].value, figure.direction == "min"
    return compare(NOT_SLOWER, figure, trial, bound, at_most=at_most, pessimistic=False)


# ---- baselines -----------------------------------------------------------------------------------


def _baseline(trial: Trial, candidates: Sequence[Trial]) -> Trial | None:
    """The first completed baseline with the trial's batch and target."""
    here = [trial.configuration.get(knob) for knob in ("batch", "target")]
    return _any_baseline(
        [t for t in candidates if [t.configuration.get(k) for k in ("batch", "target")] == here]
    )


def _any_baseline(candidates: Sequence[Trial]) -> Trial | None:
    baselines = [t for t in candidates if t.origin == "baseline"]
    return min(baselines, key=lambda t: t.number, default=None)


# ---- words ---------------------------------------------------------------------------------------


def _nothing_meets(verdicts: Sequence[_Verdict], figure: Quantity) -> NothingMeets:
    if not verdicts:
        return NothingMeets("no configuration meets the SLO: no trial was completed")
    nearest = min(
        verdicts,
        key=lambda v: (
            v.violation,
            sum(not check.met for check in v.checks),
            slowness(v.trial, figure),
            v.trial.number,
        ),
    )
    settings = ", ".join(f"{k}={v}" for k, v in nearest.trial.configuration.items())
    lines = [f"no configuration meets the SLO; trial {nearest.trial.number} comes nearest"]
    lines += [f"  ({settings}):"]
    lines += [f"  {'met   ' if c.met else 'missed'}  {c.limit}: {c.detail}" for c in nearest.checks]
    lines += ["  loosen what is missed, or search longer"]
    miss = Miss(nearest.trial.number, nearest.checks, nearest.violation)
    return NothingMeets("\n".join(lines), miss)


# ---- columns -------------------------------------------------------------------------------------


def _values(trial: Trial) -> Estimates:
    return {} if trial.measurement is None else trial.measurement.values


def slowness(trial: Trial, figure: Quantity) -> float:
    """The lower the faster; infinite where that was not measured."""
    found = _values(trial).get(figure.column)
    if found is None:
        return math.inf
    return found.value if figure.direction == "min" else -found.value
