"""Service-level objectives: sentences such as ``latency_p99 <= 2ms`` turned into numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from autotune.errors import SpecError

Direction = Literal["min", "max"]


@dataclass(frozen=True)
class Quantity:
    """Something measured: its word, its column in the trials table, its units, its better side."""

    word: str
    column: str
    units: Mapping[str, float]
    direction: Direction


_TIME = {"ms": 1.0, "us": 1e-3, "s": 1e3}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_QUANTITIES = (
    Quantity("latency_p50", "latency_p50_ms", _TIME, "min"),
    Quantity("latency_p90", "latency_p90_ms", _TIME, "min"),
    Quantity("latency_p99", "latency_p99_ms", _TIME, "min"),
    Quantity("throughput", "throughput_per_s", {"/s": 1.0, "": 1.0}, "max"),
    Quantity("server_rate", "server_rate_per_s", {"/s": 1.0, "": 1.0}, "max"),
    Quantity("cost", "cost_usd_per_million", {"usd": 1.0, "$": 1.0, "": 1.0}, "min"),
    Quantity("size", "size_bytes", _BYTES, "min"),
)
QUANTITIES: Mapping[str, Quantity] = {q.word: q for q in _QUANTITIES}
_FRACTION = {"": 1.0, "pt": 0.01, "%": 0.01}


def quantity(word: str, metrics: Mapping[str, Direction]) -> Quantity | None:
    """The quantity called ``word``, one of ours or one of the run's metrics; None if neither."""
    if word in metrics:
        return Quantity(word, word, _FRACTION, metrics[word])
    return QUANTITIES.get(word)


@dataclass(frozen=True)
class Limit:
    """``quantity <= bound`` or ``>= bound``; for a metric the bound may hang on the baseline.

    ``bound`` is in the column's unit. With ``relative`` "points" the limit is the baseline plus
    ``bound`` (a drop is negative), with "share" the baseline times (1 + ``bound``).
    """

    quantity: Quantity
    at_most: bool
    bound: float
    relative: Literal["", "points", "share"] = ""
    text: str = ""

    def value(self, baseline: float | None) -> float:
        """The limit as a number, given the baseline's value of the same quantity.

        Raises:
            ValueError: The limit hangs on a baseline and there is none.
        """
        if not self.relative:
            return self.bound
        if baseline is None:
            raise ValueError(f"'{self.text}' hangs on the baseline, which was not measured")
        return baseline + self.bound if self.relative == "points" else baseline * (1 + self.bound)


@dataclass(frozen=True)
class SLO:
    """Limits, and the quantity to optimise among what meets them."""

    limits: tuple[Limit, ...]
    objective: Quantity | None = None


def parse(sentences: Iterable[tuple[str, str]], metrics: Mapping[str, Direction]) -> SLO:
    """The SLO that the (sentence, place) pairs say.

    Raises:
        SpecError: A sentence that says no limit, an unknown quantity, a unit that it cannot have.
    """
    limits: list[Limit] = []
    objective: Quantity | None = None
    for sentence, place in sentences:
        words = sentence.split()
        if len(words) == 2 and words[0] in ("minimize", "maximize"):
            found = _known(words[1], metrics, place)
            if found.direction != words[0][:3]:
                raise SpecError(
                    f"'{sentence}' asks for a worse {found.word}",
                    place=place,
                    remedy=f"'{found.direction}imize {found.word}' is the better direction",
                )
            if objective is not None:
                raise SpecError("a second objective", place=place, remedy="keep one")
            objective = found
        else:
            limits.append(limit(sentence, metrics, place))
    return SLO(tuple(limits), objective)


def sensible(slo: SLO, fractions: Collection[str], places: Mapping[str, str]) -> None:
    """Refuse what a number without a unit hardly means for a metric that lies in [0, 1].

    ``baseline - 1`` would be 100 points, so that everything meets it, and ``>= 98`` nothing can.

    Args:
        slo: The limits.
        fractions: The metrics that lie in [0, 1].
        places: Where each sentence stands.

    Raises:
        SpecError: A limit on one of them allows or asks for 10 points or more without a unit.
    """
    for limit in slo.limits:
        word, bound = limit.quantity.word, abs(limit.bound)
        amount = _PLAIN.search(limit.text)
        if word not in fractions or amount is None:
            continue
        if limit.relative == "points" and bound >= _MANY:
            cause = f"{amount[0]} without a unit is {100 * bound:g} points of {word}"
            remedy = f"write {amount[0]}pt where points are meant, {100 * bound:g}pt where not"
        elif not limit.relative and bound > 1:
            cause = f"{amount[0]} without a unit is more than {word} can be, which lies in [0, 1]"
            remedy = f"write {amount[0]}%"
        else:
            continue
        raise SpecError(cause, place=places.get(limit.text, ""), remedy=remedy)


_PLAIN = re.compile(r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?$")
"""An amount without a unit at the end of a sentence."""
_MANY = 0.1
_SENTENCE = re.compile(r"^\s*(\w+)\s*(<=|>=|<|>)\s*(.+?)\s*$")
_BASELINE = re.compile(r"^baseline\s*(?:([+-])\s*(.+))?$")
_NUMBER = re.compile(r"^([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(\S*)$")
_EXAMPLES = "for example 'latency_p99 <= 2ms' or 'accuracy >= baseline - 1pt'"


def limit(sentence: str, metrics: Mapping[str, Direction], place: str = "") -> Limit:
    """One limit from its sentence; ``<`` and ``>`` are read as ``<=`` and ``>=``.

    Raises:
        SpecError: As for ``parse``.
    """
    match = _SENTENCE.match(sentence)
    if match is None:
        raise SpecError(f"'{sentence}' is not a limit", place=place, remedy=_EXAMPLES)
    word, comparison, right = match.groups()
    found = _known(word, metrics, place)
    at_most = comparison.startswith("<")
    if at_most != (found.direction == "min"):
        sign = "<=" if found.direction == "min" else ">="
        raise SpecError(
            f"'{sentence}' limits {word} on its good side",
            place=place,
            remedy=f"write '{word} {sign} ...'",
        )
    relative = _BASELINE.match(right)
    if relative is None:
        return Limit(found, at_most, _number(right, found, place), text=sentence)
    sign_text, amount = relative.groups()
    sign_value = -1.0 if sign_text == "-" else 1.0
    if amount is None:
        return Limit(found, at_most, 0.0, "points", sentence)
    share = re.match(r"^([0-9]*\.?[0-9]+)\s*%\s*of\s+baseline$", amount)
    if share is not None:
        return Limit(found, at_most, sign_value * float(share.group(1)) / 100, "share", sentence)
    return Limit(found, at_most, sign_value * _number(amount, found, place), "points", sentence)


def _number(text: str, of: Quantity, place: str) -> float:
    match = _NUMBER.match(text)
    if match is None:
        raise SpecError(f"'{text}' is not an amount of {of.word}", place=place, remedy=_EXAMPLES)
    amount, unit = match.groups()
    if unit.lower() not in of.units:
        known = [u for u in of.units if u]
        wants = f"write it in {', '.join(known)}" if known else "it has no unit"
        what = f"unit '{unit}'" if unit else "a number without a unit"
        raise SpecError(f"{of.word} cannot be given as {what}", place=place, remedy=wants)
    value = float(amount) * of.units[unit.lower()]
    if not math.isfinite(value):
        raise SpecError(f"'{text}' is too large for {of.word}", place=place, remedy=_EXAMPLES)
    return value


def _known(word: str, metrics: Mapping[str, Direction], place: str) -> Quantity:
    found = quantity(word, metrics)
    if found is None:
        known = ", ".join([*metrics, *QUANTITIES])
        raise SpecError(
            f"nothing called '{word}' is measured", place=place, remedy=f"known: {known}"
        )
    return found
