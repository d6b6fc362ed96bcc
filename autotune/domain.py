"""The values that a knob may take: a finite set of them, or a range of numbers."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Choice:
    """A finite set of values, in the order given."""

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a choice needs at least one value")
        if len({typed(v) for v in self.values}) != len(self.values):
            raise ValueError(f"a choice names a value twice: {list(self.values)}")

    def grid(self) -> tuple[Scalar, ...]:
        return self.values

    def contains(self, value: Scalar) -> bool:
        return typed(value) in {typed(v) for v in self.values}

    def draw(self, rng: random.Random) -> Scalar:
        return rng.choice(self.values)


@dataclass(frozen=True)
class Range:
    """Numbers between ``low`` and ``high``, both included.

    With ``step`` (or between two integers) the range is a finite grid; ``log`` spaces draws evenly
    in the logarithm.
    """

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step must be positive, not {self.step}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range starts above 0, not at {self.low}")
        if self.log and self.step is not None:
            raise ValueError("a range has a step or log, not both")

    @property
    def integer(self) -> bool:
        parts = (self.low, self.high) if self.step is None else (self.low, self.high, self.step)
        return all(isinstance(part, int) for part in parts)

    def grid(self) -> tuple[Scalar, ...] | None:
        """Every value, or None where the range is continuous."""
        if self.step is None and not self.integer:
            return None
        step = 1 if self.step is None else self.step
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        values = (self.low + i * step for i in range(count))
        return tuple(v if self.integer else float(f"{v:.12g}") for v in values)

    def contains(self, value: Scalar) -> bool:
        if isinstance(value, bool | str):
            return False
        grid = self.grid()
        return value in grid if grid is not None else self.low <= value <= self.high

    def draw(self, rng: random.Random) -> Scalar:
        grid = self.grid()
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return value if grid is None else min(grid, key=lambda g: abs(float(g) - value))
        return rng.choice(grid) if grid is not None else rng.uniform(self.low, self.high)


Domain = Choice | Range


def typed(value: Scalar) -> tuple[str, Scalar]:
    """Equal values of different kinds (True and 1) kept apart; 1 and 1.0 are the same number."""
    kind = "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    return kind, value
