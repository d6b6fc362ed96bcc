"""Conditions of knobs, judged before any point exists: can they hold, and in which words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from autotune.space import ALWAYS, AllOf, Condition, Is, Knob, Not, Scalar

NEVER = Not(ALWAYS)


def settle(condition: Condition, present: Collection[str]) -> Condition:
    """The same condition over ``present`` knobs only: a knob that is absent has no value."""
    if isinstance(condition, Is):
        return condition if condition.knob in present else NEVER
    if isinstance(condition, Not):
        inner = settle(condition.condition, present)
        return inner.condition if isinstance(inner, Not) else Not(inner)
    parts = tuple(p for c in condition.conditions if (p := settle(c, present)) != ALWAYS)
    if NEVER in parts:
        return NEVER
    return parts[0] if len(parts) == 1 else AllOf(parts)


def both(first: Condition, second: Condition) -> Condition:
    """Holds where the two do."""
    parts = tuple(c for c in (first, second) if c != ALWAYS)
    return parts[0] if len(parts) == 1 else AllOf(parts)


def possible(condition: Condition, knobs: Sequence[Knob]) -> bool:
    """Whether some choice of values of ``knobs`` (in order of dependence) makes it hold.

    Only the values that conditions mention, and one other per knob, are tried: the rest cannot be
    told apart by them.
    """
    by_name = {knob.name: knob for knob in knobs}
    needed: set[str] = set()
    todo = set(condition.knobs())
    while todo:
        needed |= todo
        todo = {n for name in todo for n in by_name[name].when.knobs()} - needed
    relevant = [knob for knob in knobs if knob.name in needed]
    mentioned = _mentioned([condition, *(knob.when for knob in relevant)])

    def walk(settings: Mapping[str, Scalar], index: int) -> bool:
        if index == len(relevant):
            return condition.holds(settings)
        knob = relevant[index]
        if not knob.when.holds(settings):
            return walk(settings, index + 1)
        tried = _representatives(knob, mentioned.get(knob.name, ()))
        return any(walk({**settings, knob.name: value}, index + 1) for value in tried)

    return walk({}, 0)


def in_words(condition: Condition) -> str:
    """``prune.structure is channel and precision is not int8``."""
    if isinstance(condition, Is):
        return f"{condition.knob} is {' or '.join(str(v) for v in condition.values)}"
    if isinstance(condition, Not):
        inner = condition.condition
        if isinstance(inner, Is):
            return f"{inner.knob} is not {' or '.join(str(v) for v in inner.values)}"
        return f"not ({in_words(inner)})"
    return " and ".join(in_words(c) for c in condition.conditions) or "always"


def _mentioned(conditions: Iterable[Condition]) -> dict[str, tuple[Scalar, ...]]:
    found: dict[str, tuple[Scalar, ...]] = {}
    todo = list(conditions)
    while todo:
        condition = todo.pop()
        if isinstance(condition, Is):
            found[condition.knob] = (*found.get(condition.knob, ()), *condition.values)
        elif isinstance(condition, Not):
            todo.append(condition.condition)
        else:
            todo.extend(condition.conditions)
    return found


def _representatives(knob: Knob, mentioned: tuple[Scalar, ...]) -> list[Scalar]:
    grid = knob.domain.grid()
    if grid is None:  # a continuous range: its ends stand for all values that nobody mentions
        grid = (knob.domain.low, knob.domain.high)  # type: ignore[union-attr]
    among = Is(knob.name, mentioned)
    other = next((v for v in grid if not among.holds({knob.name: v})), None)
    legal = [value for value in mentioned if knob.domain.contains(value)]
    return legal if other is None else [*legal, other]
