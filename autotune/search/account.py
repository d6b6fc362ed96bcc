"""What a search spent: stages run against stages needed, and the time in which none ran."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from autotune import plugins
from autotune.engine.plan import Plan
from autotune.trial import Rejected, Stopped, Trial


class Account:
    """The stages of one session by when they ran, and the trials that ended in it.

    Args:
        earlier: The names of the stages that earlier sessions of the run ran.
    """

    def __init__(self, earlier: Iterable[str] = ()) -> None:
        self.executed = list(earlier)
        self._opened = time.time()
        self._busy: list[tuple[float, float]] = []
        self._ended = 0

    def ran(self, stage: str, began: float, seconds: float) -> None:
        """A stage ran from ``began`` (``time.time``) on."""
        self.executed.append(stage)
        self._busy.append((began, began + seconds))

    def ended(self) -> None:
        """A trial ended."""
        self._ended += 1

    def overhead_s_per_trial(self) -> float:
        """The time of this session in which no stage ran anywhere, over its trials."""
        idle, free_from = 0.0, self._opened
        for start, end in sorted(self._busy):
            idle += max(0.0, start - free_from)
            free_from = max(free_from, end)
        return (idle + max(0.0, time.time() - free_from)) / max(1, self._ended)


def stages(trials: Iterable[tuple[Trial, Plan]], executed: Sequence[str]) -> dict[str, Any]:
    """How many stages and trainings ran, and how many there would be if nothing were shared.

    ``executed`` names the stages that ran. What a trial that was stopped or rejected would have
    needed does not count.
    ``trainings_needed`` counts the trials that need a training, ``trainings_without_sharing`` the
    trainings that they need.
    """
    trains = {n for n in plugins.names("techniques") if plugins.load("techniques", n).trains}
    needed: list[list[str]] = []
    for trial, plan in trials:
        if not isinstance(trial.outcome, Stopped | Rejected):
            needed.append([s.name for s in plan.chain() if s.name not in ("data", "model")])
    return {
        "stages_executed": len(executed),
        "stages_needed": sum(len(names) for names in needed),
        "trainings_executed": sum(name in trains for name in executed),
        "trainings_needed": sum(any(n in trains for n in names) for names in needed),
        "trainings_without_sharing": sum(n in trains for names in needed for n in names),
    }
