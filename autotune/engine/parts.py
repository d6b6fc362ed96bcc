"""The user's data checked: the promised form, no sample in two parts, and it fits the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from autotune.conversion.arrays import Array, Part
from autotune.engine.judge import metric
from autotune.errors import TaskError
from autotune.task import INPUT, CodeRef, Data, ModelSource

Parts = Mapping[Part, tuple[dict[str, Array], Array | None]]


def needs_labels(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics that cannot do without labels."""
    return [word for word, source in metrics.items() if metric(source).needs_labels]


def load(ref: CodeRef, model: ModelSource, labelled: list[str]) -> Parts:
    """What the user's ``data()`` gives, as (inputs by name, labels) of each part.

    Raises:
        TaskError: It is not ``Data``, a part is empty or malformed, labels are missing, or a sample
            stands in two parts.
    """
    from autotune.training import usercode

    place = str(ref)
    data = usercode.call(ref, {})
    if not isinstance(data, Data):
        raise TaskError(
            f"{ref.name}() returned {type(data).__name__}",
            place=place,
            remedy="return autotune.Data(train=(x, y), calibration=x, test=(x, y))",
        )
    given: dict[Part, Any] = {
        "train": data.train,
        "calibration": data.calibration,
        "test": data.test,
    }
    parts = {part: _part(part, value, place) for part, value in given.items() if value is not None}
    _check_test(parts, labelled, place)
    _check_alike(parts, place)
    _check_apart(parts, place)
    return parts


def _part(part: str, value: Any, place: str) -> tuple[dict[str, Array], Array | None]:
    x, y = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    inputs = {INPUT: x} if not isinstance(x, Mapping) else dict(x)
    arrays = {str(name): _array(part, str(name), array, place) for name, array in inputs.items()}
    labels = None if y is None else _array(part, "labels", y, place)
    lengths = {name: len(array) for name, array in arrays.items()}
    if labels is not None:
        lengths["labels"] = len(labels)
    if not arrays or 0 in lengths.values():
        raise TaskError(
            f"the part '{part}' has no samples",
            place=place,
            remedy="give at least one, or leave the part out where it is not needed",
        )
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise TaskError(
            f"the part '{part}' has arrays of different lengths: {told}",
            place=place,
            remedy="the first axis of every array is the samples",
        )
    return arrays, labels


def _array(part: str, name: str, value: Any, place: str) -> Array:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # rows of different lengths, a tensor with a grad
        array = np.asarray(None)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub" or array.ndim < 1:
        raise TaskError(
            f"'{name}' of part '{part}' is not an array of numbers "
            f"(dtype {array.dtype}, shape {array.shape})",
            place=place,
            remedy="give NumPy arrays of shape (samples, ...)",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise TaskError(
            f"'{name}' of part '{part}' holds NaN or infinite values",
            place=place,
            remedy="remove those samples, or fill them in",
        )
    return cast("Array", array)


def _check_test(parts: Parts, labelled: list[str], place: str) -> None:
    if "test" not in parts:
        raise TaskError("the part 'test' is missing", place=place, remedy="evaluation needs it")
    if labelled and parts["test"][1] is None:
        raise TaskError(
            f"metric '{labelled[0]}' needs labels, and the part 'test' has none",
            place=place,
            remedy="give test=(x, y), or a metric that needs none",
        )


def _check_alike(parts: Parts, place: str) -> None:
    """Inputs of the same names, shapes and kinds in every part."""
    forms = {
        part: {name: (array.shape[1:], str(array.dtype)) for name, array in x.items()}
        for part, (x, _) in parts.items()
    }
    for part, form in forms.items():
        if form != forms["test"]:
            raise TaskError(
                f"the samples of part '{part}' are {form}, those of 'test' {forms['test']}",
                place=place,
                remedy="all parts must have inputs of the same names, shapes and dtypes",
            )


def _check_apart(parts: Parts, place: str) -> None:
    """No sample in two parts, by content."""
    hashes = {part: _hashes(x) for part, (x, _) in parts.items()}
    names = list(hashes)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if common := len(hashes[one] & hashes[other]):
                raise TaskError(
                    f"{common} samples stand in both '{one}' and '{other}'",
                    place=place,
                    remedy="training, calibration and evaluation data must not overlap",
                )


def _hashes(x: Mapping[str, Array]) -> set[bytes]:
    rows = zip(*(np.ascontiguousarray(array) for array in x.values()), strict=True)
    return {hashlib.sha256(b"".join(cell.tobytes() for cell in row)).digest() for row in rows}
