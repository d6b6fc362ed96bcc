"""What a validated space file is, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotune.scenario import Scenario
from autotune.slo import SLO, Direction
from autotune.space import Space
from autotune.target import Target
from autotune.task import CodeRef, ModelSource


@dataclass(frozen=True)
class Budget:
    """When the search ends: after ``trials``, or after ``seconds`` (None: no limit)."""

    trials: int
    seconds: float | None


@dataclass(frozen=True)
class MetricRef:
    """A metric: the name of a plug-in or a function of the user's, and its better direction."""

    name: str | CodeRef
    direction: Direction


@dataclass(frozen=True)
class Spec:
    """A space file, validated and with its defaults filled in.

    Attributes:
        name: The run's name.
        path: The file it was read from; two equal specs may differ in it, and in ``notes``.
        seed: For every random choice.
        model: The model as given; file names absolute.
        data: The function that returns the data; its file absolute.
        metrics: By the user's word, which is also their column.
        objectives: Columns of the trials table and their better direction.
        slo: Limits, and what is optimised among that which meets them.
        scenario: How requests come while a configuration is measured.
        targets: Hardware to be deployed on, at least one.
        budget: When the search ends.
        space: What is searched.
        sampler: The name of the sampler.
        stage_timeout_s: The time after which a stage is killed.
        notes: What is absent and why, one sentence each.
        resolved: Plain data, defaults filled in, from which ``load`` makes an equal spec.
    """

    name: str
    path: Path = field(compare=False)
    seed: int
    model: ModelSource
    data: CodeRef
    metrics: Mapping[str, MetricRef]
    objectives: Mapping[str, Direction]
    slo: SLO
    scenario: Scenario
    targets: tuple[Target, ...]
    budget: Budget
    space: Space
    sampler: str
    stage_timeout_s: float
    notes: tuple[str, ...] = field(compare=False)
    resolved: Mapping[str, Any]
