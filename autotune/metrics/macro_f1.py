"""Macro F1: the mean over classes of the harmonic mean of precision and recall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.errors import TaskError, UserError
from autotune.slo import Direction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

summary = "F1 averaged over classes, rare ones counting as much as frequent ones"
direction: Direction = "max"
needs_labels = True
fraction = True


def score(predictions: Floats, labels: NDArray[np.generic] | None) -> float:
    """The mean F1, in [0, 1], over the classes that occur in the labels or the answers.

    Args:
        predictions: One score per class, shape (samples, classes); the largest is the answer.
        labels: Class numbers from 0, shape (samples,).

    Raises:
        TaskError: A shape, a type or a value is not as above.
        UserError: scikit-learn is not installed.
    """
    numbers = _checked(predictions, labels)
    try:
        from sklearn.metrics import f1_score
    except ModuleNotFoundError as error:
        raise UserError(
            "macro_f1 needs scikit-learn", remedy="pip install 'autotune[examples]'"
        ) from error
    return float(f1_score(numbers, predictions.argmax(axis=1), average="macro", zero_division=0))


def per_sample(predictions: Floats, labels: NDArray[np.generic] | None) -> None:
    """None: F1 is not a mean over samples."""


def _checked(predictions: Floats, labels: NDArray[np.generic] | None) -> NDArray[np.integer[Any]]:
    """The labels, once both arrays are known to be what macro_f1 needs."""
    if predictions.ndim != 2 or 0 in predictions.shape:
        raise TaskError(f"macro_f1 needs predictions (samples, classes), not {predictions.shape}")
    if not np.isfinite(predictions).all():
        raise TaskError("macro_f1 needs finite predictions; the network answered NaN or infinity")
    if labels is None:
        raise TaskError("macro_f1 needs labels", remedy="let data() return (x, y) as its test data")
    samples, classes = predictions.shape
    if labels.shape != (samples,):
        raise TaskError(f"macro_f1 needs labels of shape ({samples},), not {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TaskError(f"macro_f1 needs integer labels, not {labels.dtype}")
    numbers = labels.astype(np.int64)
    if numbers.min() < 0 or numbers.max() >= classes:
        found = f"{numbers.min()} to {numbers.max()}"
        raise TaskError(f"macro_f1 needs labels from 0 to {classes - 1}, not {found}")
    return numbers
