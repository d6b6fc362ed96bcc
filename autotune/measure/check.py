"""Whether a conversion kept the function (measurement.md, section 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.errors import StageError

Floats = NDArray[np.float64]

EXACT_DB = 300.0
"""The signal-to-noise ratio of equal outputs, and the most that is ever said."""
_ENOUGH_OTHERS = 5
_LEAST_KAPPA = 0.2


@dataclass(frozen=True)
class Tolerance:
    """How far a precision may move the outputs.

    Attributes:
        cosine: The least cosine of all outputs, taken as one vector, and the reference's.
        scale: The largest ratio of their lengths, either way.
        collapse: Whether the predicted classes must agree clearly better than by chance.
    """

    cosine: float
    scale: float
    collapse: bool


_TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(0.9999, 1.02, collapse=False),
    "bf16": Tolerance(0.99, 1.2, collapse=False),
    "fp16": Tolerance(0.99, 1.2, collapse=False),
    "int8": Tolerance(0.9, 2.0, collapse=True),
    "fp8": Tolerance(0.9, 2.0, collapse=True),
    "int8_dynamic": Tolerance(0.9, 2.0, collapse=True),
    "int8_weights": Tolerance(0.99, 1.2, collapse=False),
    "int4_weights": Tolerance(0.9, 2.0, collapse=True),
}


def tolerance(precision: str) -> Tolerance:
    """What ``precision`` may change.

    Raises:
        KeyError: No such precision.
    """
    return _TOLERANCES[precision]


def compare(reference: NDArray[Any], outputs: NDArray[Any]) -> dict[str, float]:
    """How far ``outputs`` are from ``reference``; both finite and of shape (samples, ...).

    Returns:
        ``max_abs_error``; ``cosine`` of the whole and ``cosine_worst`` of one sample (1 where both
        are zero, 0 where one is); ``scale``, the ratio of their lengths; ``snr_db``, at most
        ``EXACT_DB``; and where the shape is (samples, two classes or more) ``top1_agreement`` and,
        where the reference's classes can tell, ``top1_kappa`` (Cohen 1960): 0 by chance, 1 at best.
    """
    one = reference.reshape(len(reference), -1).astype(np.float64)
    two = outputs.reshape(len(outputs), -1).astype(np.float64)
    figures = {
        "max_abs_error": float(np.abs(one - two).max(initial=0.0)),
        "cosine": _cosine(one.ravel(), two.ravel()),
        "cosine_worst": min(_cosine(a, b) for a, b in zip(one, two, strict=True)),
        "scale": _scale(one, two),
        "snr_db": _snr_db(one, two),
    }
    return figures | _classes(one, two) if reference.ndim == 2 else figures


def verify(reference: NDArray[Any], outputs: NDArray[Any], precision: str) -> Mapping[str, float]:
    """The figures of ``compare``, or an error where the outputs are of another function.

    Args:
        reference: Outputs of the stage before, shape (samples, ...), samples >= 1.
        outputs: Outputs of the converted artifact for the same inputs.
        precision: One of ``contracts.PRECISIONS``.

    Raises:
        StageError: The shapes differ, a number is not finite, or the tolerance is exceeded.
    """
    if reference.shape != outputs.shape:
        raise StageError(f"the outputs have the shape {outputs.shape}, not {reference.shape}")
    for name, values in (("before the conversion", reference), ("after it", outputs)):
        if bad := int((~np.isfinite(values)).sum()):
            raise StageError(f"{bad} of {values.size} outputs {name} are NaN or infinite")
    limits = tolerance(precision)
    figures = compare(reference, outputs)
    broken = _broken(figures, limits)
    if broken:
        words = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        raise StageError(
            f"the {precision} conversion changed the function: {'; '.join(broken)} ({words})"
        )
    return figures


def _broken(figures: Mapping[str, float], limits: Tolerance) -> list[str]:
    broken = []
    if figures["cosine"] < limits.cosine:
        broken.append(f"a cosine of {figures['cosine']:.5f} is below {limits.cosine}")
    if not 1 / limits.scale <= figures["scale"] <= limits.scale:
        broken.append(f"the outputs are {figures['scale']:.3g} times as large")
    if limits.collapse and figures.get("top1_kappa", 1.0) < _LEAST_KAPPA:
        broken.append(f"a top-1 agreement of {figures['top1_agreement']:.2f} is as by chance")
    return broken


def _cosine(one: Floats, two: Floats) -> float:
    one, two = _unit(one), _unit(two)
    if not one.any() and not two.any():
        return 1.0
    return float(np.clip(one @ two, -1.0, 1.0))


def _unit(vector: Floats) -> Floats:
    """The vector at length 1, zero as it is; through its largest entry, so nothing overflows."""
    largest = np.abs(vector).max(initial=0.0)
    if largest == 0:
        return vector
    scaled = vector / largest
    return np.asarray(scaled / np.linalg.norm(scaled))


def _scale(one: Floats, two: Floats) -> float:
    before, after = float(np.linalg.norm(one)), float(np.linalg.norm(two))
    if before == 0:
        return 1.0 if after == 0 else np.finfo(np.float64).max.item()
    return after / before


def _snr_db(one: Floats, two: Floats) -> float:
    signal, noise = float(np.linalg.norm(one)), float(np.linalg.norm(one - two))
    if noise == 0:
        return EXACT_DB
    if signal == 0:
        return -EXACT_DB
    return min(max(20 * math.log10(signal / noise), -EXACT_DB), EXACT_DB)


def _classes(one: Floats, two: Floats) -> dict[str, float]:
    """Agreement of the predicted classes; a class that ties with the reference's agrees."""
    if one.shape[1] < 2:
        return {}
    before, after = one.argmax(axis=1), two.argmax(axis=1)
    tied = one[np.arange(len(one)), after] == one.max(axis=1)
    after = np.where(tied, before, after)
    agreement = float((before == after).mean())
    counts = np.bincount(before, minlength=one.shape[1])
    if len(one) - counts.max() < _ENOUGH_OTHERS:  # nearly one class: chance agrees as well
        return {"top1_agreement": agreement}
    chance = float(counts @ np.bincount(after, minlength=one.shape[1])) / len(one) ** 2
    return {"top1_agreement": agreement, "top1_kappa": (agreement - chance) / (1 - chance)}
