"""What a search spent: stages run against stages needed, and the time in which none ran."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from autotune.engine.plan import Plan, trains
from autotune.trial import Completed, Failed, Trial

Ran = tuple[str, bool]
"""A stage that ran: its key, and whether it trained."""


class Account:
    """The stages of one session by when they ran, and the trials that ended in it.

    Args:
        earlier: The stages that earlier sessions of the run ran.
    """

    def __init__(self, earlier: Iterable[Ran] = ()) -> None:
        self.executed = list(earlier)
        self._opened = time.time()
        self._busy: list[tuple[float, float]] = []
        self._ended = 0

    def ran(self, stage: Ran, began: float, seconds: float) -> None:
        """A stage ran from ``began`` (``time.time``) on."""
        self.executed.append(stage)
        self.beside(began, seconds)

    def beside(self, began: float, seconds: float) -> None:
        """Something ran from ``began`` on that no trial needs: the front was confirmed."""
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


def stages(trials: Iterable[tuple[Trial, Plan]], executed: Sequence[Ran]) -> dict[str, Any]:
    """How many stages and trainings ran, and how many it would be if nothing were shared.

    A trial that completed or failed needs its whole chain. One that was stopped, rejected or not
    finished needed what of it ran, and so did the look at an untrained structure.
    ``trainings_needed`` counts the trials that need a training, ``trainings_without_sharing`` the
    trainings that they need.

    Args:
        trials: Every trial that was begun, with its stages.
        executed: Every stage that ran.
    """
    ran = {key for key, _ in executed}
    needed: list[list[bool]] = []
    for trial, plan in trials:
        whole = isinstance(trial.outcome, Completed | Failed)
        made = {s.key: s for s in plan.chain() if whole or s.key in ran}
        looked = plan.proxy.chain() if plan.proxy else ()
        made |= {s.key: s for s in looked if s.key in ran}
        needed.append([trains(s) for s in made.values() if s.name not in ("data", "model")])
    return {
        "stages_executed": len(executed),
        "stages_needed": sum(len(chain) for chain in needed),
        "trainings_executed": sum(trained for _, trained in executed),
        "trainings_needed": sum(any(chain) for chain in needed),
        "trainings_without_sharing": sum(sum(chain) for chain in needed),
    }
