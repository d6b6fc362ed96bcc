"""What the user brings: a model and its data, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.space import Scalar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

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
        train: The user's own training, ``train(network, lesson)``; None for the shared loop.
    """

    factory: CodeRef | None = None
    args: Mapping[str, Scalar] = field(default_factory=dict)
    weights: str | None = None
    onnx: str | None = None
    output: int | str = 0
    code: str = ""
    train: CodeRef | None = None

    @property
    def trainable(self) -> bool:
        return self.factory is not None

    def record(self) -> dict[str, Any]:
        """As JSON values, which ``from_record`` reads."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ModelSource:
        """What ``record`` told."""
        refs = {k: CodeRef(**record[k]) for k in ("factory", "train") if record.get(k)}
        return cls(**{**record, **refs})


@dataclass(frozen=True)
class Blueprint:
    """How a fresh network is built: a function of the model's own file, and its arguments.

    Attributes:
        args: Keyword arguments of the factory.
        factory: The function's name; "" for the model's own factory.
        sparse: Whether weights were pruned to zero, so that every training leaves the zeros.
    """

    args: Mapping[str, Scalar] = field(default_factory=dict)
    factory: str = ""
    sparse: bool = False


Loss = Callable[["Tensor", "Tensor | None", "Tensor | None"], "Tensor"]
"""(logits, labels, teacher logits) -> a scalar."""


@dataclass(frozen=True)
class Lesson:
    """What the user's ``train(network, lesson)`` gets; it trains in place, or returns the network.

    Attributes:
        x, y: Training data; x by input name, each of shape (samples, ...); y None without labels.
        teacher_logits: The given model's outputs over ``x``, shape (samples, classes), or None.
        loss: (logits, labels, teacher logits) -> a scalar: what the technique would minimise.
        epochs, lr: What the configuration asks for.
        seed: For every random choice.
        checkpoint: A file that may be written to and resumed from after a kill.
        report: Shows a line of progress to the user.
    """

    x: Arrays
    y: Array | None
    teacher_logits: Array | None
    loss: Loss
    epochs: int
    lr: float
    seed: int
    checkpoint: Path
    report: Callable[[str], None]


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
