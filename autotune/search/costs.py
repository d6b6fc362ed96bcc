"""What stages cost, learned from those that ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

UNKNOWN_S = 2.0
"""What a stage is taken to cost before one of its name has run."""


class Costs:
    """Seconds by stage name."""

    def __init__(self) -> None:
        self._stages: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, stage: str, seconds: float) -> None:
        """A stage ran for so long."""
        self._stages[stage].append(seconds)

    def predict(self, stages: Iterable[str]) -> float:
        """Seconds of work that stages of these names will probably take."""
        return sum(fmean(self._stages[s]) if s in self._stages else UNKNOWN_S for s in stages)
