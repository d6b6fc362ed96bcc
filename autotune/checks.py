"""One limit held against one trial, with the comparison in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autotune.slo import QUANTITIES, Quantity
from autotune.trial import Trial

LATENCIES = frozenset(c for q in QUANTITIES.values() if (c := q.column).startswith("latency_"))
_UNITS = {
    **dict.fromkeys(LATENCIES, (1.0, " ms")),
    "throughput_per_s": (1.0, " /s"),
    "server_rate_per_s": (1.0, " requests/s"),
    "cost_usd_per_million": (1.0, " USD per million"),
    "size_bytes": (1e-6, " MB"),
}
_ROUNDING = 1e-9
"""A share of the bound: 0.99 - 0.01 and 0.98 are the same limit."""


@dataclass(frozen=True)
class Check:
    """One limit held against one trial.

    Attributes:
        limit: The limit as it was written, or what else a pick asks for.
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


def compare(
    text: str, q: Quantity, trial: Trial, bound: float, *, at_most: bool, pessimistic: bool
) -> tuple[Check, float]:
    """The trial's ``q`` held against ``bound``, and by which share of the bound it is missed.

    With ``pessimistic`` a latency is held by the upper end of its interval.
    """
    found = None if trial.measurement is None else trial.measurement.values.get(q.column)
    if found is None:
        return Check(text, q.column, None, bound, False, f"{q.word} was not measured"), math.inf
    upper = pessimistic and q.column in LATENCIES
    value = found.high if upper else found.value
    if value is None:
        by, missed = _missed(found.value, bound, at_most=at_most)
        seen = f"{_say(q, found.value)} was seen"
        detail = (
            f"{seen}, limit {_say(q, bound)}: missed by {_say_difference(q, by)} ({missed:.1%})"
            if missed
            else f"{seen}, but its upper bound is unknown: too few samples; measure longer"
        )
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


def _say(q: Quantity, value: float) -> str:
    scale, unit = _UNITS.get(q.column, (1.0, ""))
    return f"{value * scale:.4g}{unit}"


def _say_difference(q: Quantity, value: float) -> str:
    return _say(q, value) if q.column in _UNITS else f"{100 * value:.3g} points"
