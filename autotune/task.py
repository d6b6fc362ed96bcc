"""What the user brings: a model and its data, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autotune.space import Scalar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]
    Arrays = Mapping[str, Array]

INPUT = "input"
"""The name of a network's input where the data is one plain array."""


@dataclass(frozen=True)
class CodeRef:
    """A name inside a Python file: ``task.py:build_model``."""

    file: str
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.name}"


@dataclass(frozen=True)
class ModelSource:
    """The model as given: a factory with its arguments and weights, or an ONNX file.

    Attributes:
        factory: Builds the network (``torch.nn.Module``) from ``args``; None for an ONNX model.
        args: The arguments the weights were trained with: the teacher and baseline.
        weights: A file with a ``state_dict``, loaded with ``weights_only=True``; None: as built.
        onnx: The ONNX file; None for a factory.
        output: Which of several outputs (a position or a name) is the prediction.
        code: A hash over the factory's files when the model was taken in; "" before that.
    """

    factory: CodeRef | None = None
    args: Mapping[str, Scalar] = field(default_factory=dict)
    weights: str | None = None
    onnx: str | None = None
    output: int | str = 0
    code: str = ""

    @property
    def trainable(self) -> bool:
        return self.factory is not None


class Data:
    """What the user's ``data()`` returns.

    Args:
        train: ``(x, y)`` for training and fine-tuning; None where nothing is trained.
        calibration: ``x`` (or ``(x, y)``) for quantization; None where nothing is calibrated.
        test: ``(x, y)`` (or ``x`` where the metric needs no labels) for evaluation.

    ``x`` is an array of shape (samples, ...) or a dict of such arrays, one per input of the
    network, in the order of its arguments; ``y`` is an array of shape (samples, ...).
    """

    def __init__(self, *, train: Any = None, calibration: Any = None, test: Any) -> None:
        self.train = train
        self.calibration = calibration
        self.test = test
