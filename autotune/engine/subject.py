"""What configurations are planned for: what is tuned, how long it is measured, on which data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autotune.artifact import Stage
from autotune.task import ModelSource


@dataclass(frozen=True)
class Subject:
    """What is tuned: the user's model and data, taken in, and how results are judged.

    Attributes:
        model: The model as given.
        source: The stage whose artifact is the given model (a network, or an ONNX file).
        data: The stage whose artifact holds the arrays.
        metrics: For each metric's word, what computes it: a plug-in's name, or file and name.
        seed: For every training.
    """

    model: ModelSource
    source: Stage
    data: Stage
    metrics: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Effort:
    """How long one latency measurement may take, and how narrow it should get.

    Attributes:
        precision: Relative half-width of the p50's interval at which it may end.
        min_s, max_s: Bounds of its measuring time, in seconds.
        tail_below_ms: A model whose median is not above it is measured on, up to ``tail_max_s``,
            until the p99 has an upper bound: an SLO limits it.
        tail_precision: Relative half-width of the p99's interval that it then takes too; None: any.
        timeout_s: When a stage of any kind is killed.
    """

    precision: float = 0.01
    min_s: float = 0.4
    max_s: float = 1.2
    tail_below_ms: float | None = None
    tail_max_s: float = 10.0
    tail_precision: float | None = None
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Needs:
    """What the configurations of a space ask of the data.

    Attributes:
        trains: Whether any of them trains.
        train: Whether any reads the training data.
        calibration: The most calibration samples that one asks for.
    """

    trains: bool = False
    train: bool = False
    calibration: int = 0
