"""The choice under limits: the best trial that meets the SLO and is not slower than the baseline.

Latencies are held against their limits by the upper end of their 95 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autotune.errors import NothingFits, UserError
from autotune.slo import QUANTITIES, SLO, Limit, Quantity
from autotune.trial import Estimate, Trial, doubt

P50 = QUANTITIES["latency_p50"]
NOT_SLOWER = "not slower than the baseline"
_LATENCIES = frozenset(c for q in QUANTITIES.values() if (c := q.column).startswith("latency_"))
_UNITS = {
    **dict.fromkeys(_LATENCIES, (1.0, " ms")),
    "throughput_per_s": (1.0, " /s"),
    "cost_usd_per_million": (1.0, " USD per million"),
    "size_bytes": (1e-6, " MB"),
}
_ROUNDING = 1e-9
"""A share of the bound: 0.99 - 0.01 and 0.98 are the same limit."""

Estimates = Mapping[str, Estimate]


@dataclass(frozen=True)
class Check:
    """One limit held against one trial.

    Attributes:
        limit: The limit as it was written, or ``NOT_SLOWER``.
        column: The column it reads.
        value: What was held against it (a latency: its upper bound); None where that is unknown.
        bound: The limit as a number in the column's unit; NaN where the baseline is missing.
        met: Whether the value keeps it; an unknown value does not.
        detail: The comparison in words.
    """

    limit: str
    column: str
    value: float | None
    bound: float
    met: bool
    detail: str


@dataclass(frozen=True)
class Pick:
    """The answer, with its evidence.

    Attributes:
        trial: Its number.
        checks: Every limit, all met, and ``NOT_SLOWER`` where a baseline has the same batch.
        objective: The word of what was optimised among the trials that meet the limits.
        value: The trial's value of it.
        baseline: The baseline's trial at the same batch and target; None where there is none.
        speedup: That baseline's p50 over the trial's.
        warnings: Why its latencies or the baseline's are to be doubted, a sentence each.
    """

    trial: int
    checks: tuple[Check, ...]
    objective: str
    value: float
    baseline: int | None
    speedup: float | None
    warnings: tuple[str, ...] = ()


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
    (an equal value; for a latency, intervals that hold each other's values) are ordered by p50,
    then by number.

    Raises:
        NothingMeets: No completed trial meets every limit.
        UserError: The objective was measured in none that does.
    """
    candidates = [trial for trial in trials if trial.measurement is not None]
    verdicts = [_verdict(trial, candidates, slo) for trial in candidates]
    meeting = {v.trial.number: v for v in verdicts if all(check.met for check in v.checks)}
    if not meeting:
        raise _nothing_meets(verdicts)
    objective = slo.objective or default_objective
    best = _best([v.trial for v in meeting.values()], objective)
    baseline = _baseline(best, candidates)
    return Pick(
        trial=best.number,
        checks=meeting[best.number].checks,
        objective=objective.word,
        value=_values(best)[objective.column].value,
        baseline=baseline.number if baseline else None,
        speedup=_speedup(baseline, best),
        warnings=_doubts(best if baseline is None else baseline, best),
    )


# ---- the best ------------------------------------------------------------------------------------


def _best(trials: Sequence[Trial], objective: Quantity) -> Trial:
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
    return min(tied, key=lambda t: (_p50(t, math.inf), t.number))


def _tied(a: Estimates, b: Estimates, column: str) -> bool:
    one, other = a[column], b[column]
    if column not in _LATENCIES:
        return one.value == other.value
    return _holds(one, other.value) and _holds(other, one.value)


def _holds(estimate: Estimate, value: float) -> bool:
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return low <= value <= high


def _speedup(baseline: Trial | None, trial: Trial) -> float | None:
    if baseline is None or P50.column not in _values(trial):
        return None
    return _p50(baseline, math.nan) / _p50(trial, math.nan)


def _doubts(*trials: Trial) -> tuple[str, ...]:
    told = {t.number: doubt(t) for t in trials}
    return tuple(words for words in told.values() if words)


# ---- limits --------------------------------------------------------------------------------------


def _verdict(trial: Trial, candidates: Sequence[Trial], slo: SLO) -> _Verdict:
    alike = _baseline(trial, candidates)
    reference = alike or _any_baseline(candidates)
    judged = [_judge(limit, trial, reference) for limit in slo.limits]
    if alike is not None and P50.column in _values(alike) and trial.origin != "baseline":
        judged.append(_judge_speed(trial, alike))
    elif reference is not None and trial.origin != "baseline":
        batch = trial.configuration.get("batch")
        detail = f"the baseline was not measured at batch {batch}"
        judged.append((Check(NOT_SLOWER, P50.column, None, math.nan, False, detail), math.inf))
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
    return _compare(limit.text, q, trial, bound, at_most=limit.at_most, pessimistic=True)


def _judge_speed(trial: Trial, baseline: Trial) -> tuple[Check, float]:
    bound = _p50(baseline, math.inf)
    return _compare(NOT_SLOWER, P50, trial, bound, at_most=True, pessimistic=False)


def _compare(
    text: str, q: Quantity, trial: Trial, bound: float, *, at_most: bool, pessimistic: bool
) -> tuple[Check, float]:
    found = _values(trial).get(q.column)
    if found is None:
        return Check(text, q.column, None, bound, False, f"{q.word} was not measured"), math.inf
    upper = pessimistic and q.column in _LATENCIES
    value = found.high if upper else found.value
    if value is None:
        _, missed = _missed(found.value, bound, at_most=at_most)
        seen = f"{_say(q, found.value)} was seen, but its upper bound is"
        detail = f"{seen} unknown: too few samples; measure longer"
        return Check(text, q.column, None, bound, False, detail), missed
    by, share = _missed(value, bound, at_most=at_most)
    held = f"{_say(q, value)}{' (95 % upper bound)' if upper else ''}, limit {_say(q, bound)}"
    detail = f"{held}: missed by {_say_difference(q, by)} ({share:.1%})" if share else held
    return Check(text, q.column, value, bound, not share, detail), share


def _missed(value: float, bound: float, *, at_most: bool) -> tuple[float, float]:
    """By how much the bound is missed, and which share of the bound that is; zeros where met."""
    by = value - bound if at_most else bound - value
    if by <= _ROUNDING * abs(bound):
        return 0.0, 0.0
    return by, by / abs(bound) if bound else math.inf


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


def _nothing_meets(verdicts: Sequence[_Verdict]) -> NothingMeets:
    if not verdicts:
        return NothingMeets("no configuration meets the SLO: no trial was completed")
    nearest = min(
        verdicts,
        key=lambda v: (
            v.violation,
            sum(not check.met for check in v.checks),
            _p50(v.trial, math.inf),
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


def _say(q: Quantity, value: float) -> str:
    scale, unit = _UNITS.get(q.column, (1.0, ""))
    return f"{value * scale:.4g}{unit}"


def _say_difference(q: Quantity, value: float) -> str:
    return _say(q, value) if q.column in _UNITS else f"{100 * value:.3g} points"


# ---- columns -------------------------------------------------------------------------------------


def _values(trial: Trial) -> Estimates:
    return {} if trial.measurement is None else trial.measurement.values


def _p50(trial: Trial, absent: float) -> float:
    found = _values(trial).get(P50.column)
    return absent if found is None else found.value
