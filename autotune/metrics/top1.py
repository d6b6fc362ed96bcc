"""Top-1 accuracy: how often the largest output is at the label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.errors import TaskError
from autotune.slo import Direction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

summary = "share of samples whose largest output is at the label"
direction: Direction = "max"
needs_labels = True
fraction = True


def score(predictions: Floats, labels: NDArray[np.generic] | None) -> float:
    """The share of samples, in [0, 1], whose largest output is at the label.

    Args:
        predictions: One score per class, shape (samples, classes).
        labels: Class numbers from 0, shape (samples,).

    Raises:
        TaskError: A shape, a type or a value is not as above.
    """
    return float(per_sample(predictions, labels).mean())


def per_sample(predictions: Floats, labels: NDArray[np.generic] | None) -> Floats:
    """1 where the largest output is at the label, else 0, shape (samples,).

    Raises:
        TaskError: As for ``score``.
    """
    numbers = _checked(predictions, labels)
    hits: Floats = (predictions.argmax(axis=1) == numbers).astype(np.float64)
    return hits


def _checked(predictions: Floats, labels: NDArray[np.generic] | None) -> NDArray[np.integer[Any]]:
    """The labels, once both arrays are known to be what top1 needs."""
    if predictions.ndim != 2 or 0 in predictions.shape:
        raise TaskError(f"top1 needs predictions (samples, classes), not {predictions.shape}")
    if not np.isfinite(predictions).all():
        raise TaskError("top1 needs finite predictions; the network answered NaN or infinity")
    if labels is None:
        raise TaskError("top1 needs labels", remedy="let data() return (x, y) as its test data")
    samples, classes = predictions.shape
    if labels.shape != (samples,):
        raise TaskError(f"top1 needs labels of shape ({samples},), not {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TaskError(f"top1 needs integer labels, not {labels.dtype}")
    numbers = labels.astype(np.int64)
    if numbers.min() < 0 or numbers.max() >= classes:
        found = f"{numbers.min()} to {numbers.max()}"
        raise TaskError(f"top1 needs labels from 0 to {classes - 1}, not {found}")
    return numbers
