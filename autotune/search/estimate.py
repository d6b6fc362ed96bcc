"""How long a search will probably take, said before it starts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autotune.engine.plan import Subject, plan
from autotune.search.effort import effort
from autotune.spec import Spec

START_S = 6.0
"""Starting the cluster and writing the report."""
MEASURING_S = 2.0
"""One latency measurement with the start of its process."""
STAGE_S = 1.0
"""A conversion or an accuracy run of a small network."""


@dataclass(frozen=True)
class Estimate:
    """What ``trials`` trials of this space will probably cost."""

    trials: int
    trainings: int
    seconds: float


def estimate(spec: Spec, subject: Subject, facts: Mapping[str, Any]) -> Estimate:
    """Stages that as many points drawn at random would need, each counted once.

    ``facts`` are those of the intake: ``epoch_s``, the measured seconds of one training epoch.
    """
    grid = spec.space.grid()
    trials = min(spec.budget.trials, len(grid.points)) if grid else spec.budget.trials
    rng = random.Random(spec.seed)
    points = (
        rng.sample(grid.points, trials) if grid else [spec.space.draw(rng) for _ in range(trials)]
    )
    targets, asked = {target.name: target for target in spec.targets}, effort(spec)
    stages = {
        stage.key: stage
        for point in points
        for stage in plan(point, subject, targets, asked, spec.scenario).chain()
    }
    measuring = asked.tail_max_s if spec.scenario.kind == "server" else 0.0
    seconds = {"lane": 0.0, "cores": 0.0}
    trainings = 0
    for stage in stages.values():
        epochs = _epochs(stage.parameters.get("settings", {})) if stage.kind == "network" else 0
        trainings += bool(epochs)
        where = "lane" if stage.lane else "cores"
        cost = (
            MEASURING_S + measuring
            if stage.lane
            else epochs * float(facts.get("epoch_s", 0.0)) or STAGE_S
        )
        seconds[where] += cost
    lanes = sum(target.lanes for target in spec.targets)
    cores = max(len(target.preparing) for target in spec.targets)
    return Estimate(
        trials, trainings, START_S + max(seconds["lane"] / lanes, seconds["cores"] / cores)
    )


def _epochs(settings: Mapping[str, Any]) -> int:
    return sum(int(value) for name, value in settings.items() if name.endswith(".epochs"))
