"""The search space: knobs, the conditions under which they exist, and the points made of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from autotune.domain import Choice, Domain, Range, Scalar, typed
from autotune.errors import Infeasible

__all__ = [
    "ALWAYS",
    "AllOf",
    "Choice",
    "Condition",
    "Configuration",
    "Domain",
    "Grid",
    "Is",
    "Knob",
    "Not",
    "Range",
    "Rule",
    "Scalar",
    "Settings",
    "Space",
]
Settings = Mapping[str, Scalar]
Rule = Callable[[Settings], str | None]
"""A rule looks at the active settings of a point and says why it cannot run, or None."""


# ---- conditions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Is:
    """Holds where ``knob`` is active with one of ``values``."""

    knob: str
    values: tuple[Scalar, ...]

    def holds(self, settings: Settings) -> bool:
        return self.knob in settings and typed(settings[self.knob]) in {
            typed(v) for v in self.values
        }

    def knobs(self) -> frozenset[str]:
        return frozenset({self.knob})


@dataclass(frozen=True)
class Not:
    """Holds where ``condition`` does not."""

    condition: Condition

    def holds(self, settings: Settings) -> bool:
        return not self.condition.holds(settings)

    def knobs(self) -> frozenset[str]:
        return self.condition.knobs()


@dataclass(frozen=True)
class AllOf:
    """Holds where every one of ``conditions`` does; ``AllOf(())`` always holds."""

    conditions: tuple[Condition, ...]

    def holds(self, settings: Settings) -> bool:
        return all(c.holds(settings) for c in self.conditions)

    def knobs(self) -> frozenset[str]:
        return frozenset[str]().union(*(c.knobs() for c in self.conditions))


Condition = Is | Not | AllOf
ALWAYS = AllOf(())


# ---- points --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Knob:
    """One searchable dimension; it exists in a configuration only where ``when`` holds."""

    name: str
    domain: Domain
    when: Condition = ALWAYS


@dataclass(frozen=True)
class Configuration(Mapping[str, Scalar]):
    """One frozen point: the values of the active knobs. Only a ``Space`` makes them."""

    settings: tuple[tuple[str, Scalar], ...]

    def __getitem__(self, name: str) -> Scalar:
        return self._lookup[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.settings)

    def __len__(self) -> int:
        return len(self.settings)

    @cached_property
    def _lookup(self) -> dict[str, Scalar]:
        return dict(self.settings)

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits that are equal exactly where the active settings are."""
        text = json.dumps(self.settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Grid:
    """A finite space written out: its feasible points, and what was removed for which reason."""

    points: tuple[Configuration, ...]
    removed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Space:
    """Knobs in an order in which each depends only on earlier ones, and rules that remove points.

    Raises:
        ValueError: A knob is named twice or depends on one that does not come before it.
    """

    knobs: tuple[Knob, ...]
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for knob in self.knobs:
            if knob.name in seen:
                raise ValueError(f"knob {knob.name} is declared twice")
            if unknown := knob.when.knobs() - seen:
                raise ValueError(f"knob {knob.name} depends on {sorted(unknown)}, not before it")
            seen.add(knob.name)

    def configure(self, values: Mapping[str, Scalar]) -> Configuration:
        """The configuration of ``values``: inactive knobs dropped, missing pinned ones filled in.

        Raises:
            Infeasible: A value lies outside its domain, is missing, or a rule removes the point.
        """
        settings: dict[str, Scalar] = {}
        for knob in self.knobs:
            if knob.when.holds(settings):
                settings[knob.name] = _value(knob, values)
        if reason := self.rejection(settings):
            raise Infeasible(reason)
        return Configuration(tuple(sorted(settings.items())))

    def rejection(self, settings: Settings) -> str | None:
        """The first reason why these active settings cannot run, or None."""
        return next((reason for rule in self.rules if (reason := rule(settings))), None)

    def draw(self, rng: random.Random, tries: int = 1000) -> Configuration:
        """A feasible point, each active knob drawn by itself.

        Raises:
            Infeasible: ``tries`` draws were all removed by the rules.
        """
        reason = "the space has no point"
        for _ in range(tries):
            try:
                return self.configure({k.name: k.domain.draw(rng) for k in self.knobs})
            except Infeasible as error:
                reason = str(error)
        raise Infeasible(f"none of {tries} draws can run; the last one: {reason}")

    def neighbours(self, point: Configuration, knob: str) -> Iterator[Configuration]:
        """The feasible points that differ from ``point`` in ``knob`` (and what hangs on it)."""
        domain = next(k.domain for k in self.knobs if k.name == knob)
        for value in domain.grid() or ():
            if typed(value) == typed(point[knob]):
                continue
            try:
                yield self.configure(self._filled({**point, knob: value}))
            except Infeasible:
                continue

    def searched(self) -> tuple[Knob, ...]:
        """The knobs that have more than one value."""
        return tuple(k for k in self.knobs if len(k.domain.grid() or (0, 1)) > 1)

    def grid(self, limit: int = 200_000) -> Grid | None:
        """The space written out, or None where it is continuous or larger than ``limit``."""
        return _grid(self, limit)

    def _filled(self, values: Settings) -> dict[str, Scalar]:
        firsts = {
            k.name: (k.domain.grid() or (k.domain.draw(random.Random(0)),))[0] for k in self.knobs
        }
        return {**firsts, **values}


def _value(knob: Knob, values: Mapping[str, Scalar]) -> Scalar:
    grid = knob.domain.grid()
    if knob.name not in values:
        if grid is not None and len(grid) == 1:
            return grid[0]
        raise Infeasible(f"{knob.name} has no value")
    value = values[knob.name]
    if not knob.domain.contains(value):
        raise Infeasible(f"{knob.name} = {value!r} is not in the space")
    return value


def _grid(space: Space, limit: int) -> Grid | None:
    grids = [knob.domain.grid() for knob in space.knobs]
    if any(grid is None for grid in grids):
        return None
    points: list[Configuration] = []
    removed: Counter[str] = Counter()

    def walk(settings: dict[str, Scalar], index: int) -> Iterator[dict[str, Scalar]]:
        if index == len(space.knobs):
            yield settings
            return
        knob = space.knobs[index]
        if not knob.when.holds(settings):
            yield from walk(settings, index + 1)
            return
        for value in grids[index] or ():
            yield from walk({**settings, knob.name: value}, index + 1)

    for settings in itertools.islice(walk({}, 0), limit + 1):
        if reason := space.rejection(settings):
            removed[reason] += 1
        else:
            points.append(Configuration(tuple(sorted(settings.items()))))
    if len(points) + removed.total() > limit:
        return None
    return Grid(tuple(points), dict(removed))
