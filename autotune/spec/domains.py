"""One parameter of a plug-in and what the file says of it -> the knob's domain."""

from __future__ import annotations

import math
from typing import Any

from autotune.contracts import Parameter
from autotune.space import Choice, Domain, Range, Scalar
from autotune.spec.marks import Document, Where, dotted
from autotune.spec.words import EXPECTED, did_you_mean, shown, unknown_key, wrong_kind

MAX_STEPS = 10_000
MAX_NUMBER = 1e300
_FORMS = "a list searches, a scalar pins, {low, high, step | log} is a range"


def domain(parameter: Parameter, document: Document, where: Where) -> Domain:
    """What the file says at ``where``: a list is a choice, a scalar pins, low and high a range.

    Raises:
        SpecError: It is nothing of these, or holds a value that the parameter cannot take.
    """
    given = document.at(where)
    if isinstance(given, dict):
        return _range(parameter, document, where)
    if not isinstance(given, list):
        return Choice((_value(parameter, document, where),))
    if not given:
        raise document.error(where, "the list of choices is empty", f"name a value; {_FORMS}")
    values: list[Scalar] = []
    for index in range(len(given)):
        value = _value(parameter, document, (*where, index))
        if any(Choice((v,)).contains(value) for v in values):
            raise document.error((*where, index), f"{shown(value)} is named twice", "keep one")
        values.append(value)
    return Choice(tuple(values))


def plain(domain: Domain) -> Any:
    """A domain in the words of the file: what ``domain`` reads back as the same."""
    if isinstance(domain, Choice):
        return domain.values[0] if len(domain.values) == 1 else list(domain.values)
    extra: dict[str, Any] = {"log": True} if domain.log else {}
    if domain.step is not None:
        extra = {"step": domain.step}
    return {"low": domain.low, "high": domain.high, **extra}


def _value(parameter: Parameter, document: Document, where: Where) -> Scalar:
    value = _kind(parameter, document, where)
    if parameter.choices and not Choice(parameter.choices).contains(value):
        words = [str(choice) for choice in parameter.choices]
        remedy = did_you_mean(str(value), words)
        raise document.error(
            where,
            f"{shown(value)} is not a {parameter.name} that {_owner(where)} knows",
            remedy if "?" in remedy else f"{remedy} ({parameter.help})",
        )
    _bounded(parameter, value, document, where)
    return value


def _kind(parameter: Parameter, document: Document, where: Where) -> Scalar:
    value: Any = document.at(where)
    example = f"for example {parameter.name}: {plain(Choice((parameter.default,)))}; {_FORMS}"
    kind = parameter.kind
    if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:  # not a number, too
        raise document.error(where, f"{value!s:.40} is not a usable number", "write a finite one")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise wrong_kind(document, where, EXPECTED[kind], example)
    checked: Scalar = value
    return checked


def _bounded(parameter: Parameter, value: Scalar, document: Document, where: Where) -> None:
    if isinstance(value, bool | str):
        return
    low, high = parameter.low, parameter.high
    if (low is not None and value < low) or (high is not None and value > high):
        least = "" if low is None else f"at least {low:g}"
        most = "" if high is None else f"at most {high:g}"
        legal = " and ".join(part for part in (least, most) if part)
        raise document.error(where, f"{value} is out of bounds", f"{parameter.name} is {legal}")


def _range(parameter: Parameter, document: Document, where: Where) -> Domain:
    given: dict[str, Any] = document.at(where)
    known = ("low", "high", "step", "log")
    for key in given:
        if key not in known:
            raise unknown_key(document, (*where, key), known)
    if parameter.kind in (bool, str) or parameter.choices:
        words = ", ".join(str(c) for c in parameter.choices) or EXPECTED[parameter.kind]
        raise document.error(
            where, f"{parameter.name} is not a number that has a range", f"list values of: {words}"
        )
    for key in ("low", "high"):
        if key not in given:
            raise document.error(where, f"the range has no '{key}'", _FORMS)
    low, high = (_number(parameter, document, (*where, key)) for key in ("low", "high"))
    step = _number(parameter, document, (*where, "step")) if "step" in given else None
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise wrong_kind(document, (*where, "log"), EXPECTED[bool], "write log: true")
    _ordered(document, where, low, high)
    for key, value in (("low", low), ("high", high)):
        _bounded(parameter, value, document, (*where, key))
    _steps(document, where, (low, high), step, log=log, whole=parameter.kind is int)
    return Choice((low,)) if low == high else Range(low, high, step, log)


def _number(parameter: Parameter, document: Document, where: Where) -> int | float:
    value = _kind(parameter, document, where)
    assert isinstance(value, int | float)
    return value


def _ordered(document: Document, where: Where, low: float, high: float) -> None:
    if low > high:
        raise document.error(where, f"low ({low}) is above high ({high})", "swap them")


def _steps(
    document: Document,
    where: Where,
    ends: tuple[float, float],
    step: float | None,
    *,
    log: bool,
    whole: bool,
) -> None:
    if log and step is not None:
        raise document.error(where, "the range has both step and log", "keep one of them")
    if log and ends[0] <= 0:
        raise document.error(
            (*where, "low"), f"a log range starts above 0, not at {ends[0]}", "raise it"
        )
    if step is not None and step <= 0:
        raise document.error((*where, "step"), f"the step is {step}", "make it positive")
    width = step or (1 if whole else math.inf)
    if (ends[1] - ends[0]) / width > MAX_STEPS:
        raise document.error(
            where, f"the range has more than {MAX_STEPS} values", "give it a larger step"
        )


def _owner(where: Where) -> str:
    return dotted(where[1:-1]) or "the space" if isinstance(where[-1], str) else _owner(where[:-1])
