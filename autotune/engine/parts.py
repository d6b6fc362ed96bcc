"""The user's data checked: the promised form, no sample in two parts, and it fits the model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from autotune.conversion.arrays import Array, Part
from autotune.engine.judge import metric, score
from autotune.errors import StageError, TaskError
from autotune.task import INPUT, CodeRef, Data, ModelSource

Parts = Mapping[Part, tuple[dict[str, Array], Array | None]]
REHEARSED = 64
"""How many test samples the given model is tried on before anything else starts."""


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


def rehearse(
    model: ModelSource, parts: Parts, metrics: Mapping[str, Any], artifact: Path
) -> list[int]:
    """Try the given model on a few test samples; the shape of its prediction for one sample.

    Raises:
        TaskError: It cannot run them, does not predict one row a sample, or a metric is not finite.
    """
    from autotune.engine.build import run_onnx
    from autotune.training import network as networks

    x, y = parts["test"]
    few = {name: array[:REHEARSED] for name, array in x.items()}
    count = len(next(iter(few.values())))
    place = str(model.factory or model.onnx)
    try:
        if model.onnx is not None:
            outputs = run_onnx(artifact, few)
        else:
            network, _, _ = networks.load(artifact)
            outputs = networks.predict(network, few, model.output)
    except Exception as error:  # the edge to the user's network
        shapes = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in few.items())
        words = " ".join(str(error).split())[:300]
        raise TaskError(
            f"the model cannot run the test data ({shapes}): {type(error).__name__}: {words}",
            place=place,
            remedy="the inputs are handed over in the order of the network's arguments; their"
            " shapes and dtypes, and the weights', must be the network's",
        ) from error
    if outputs.ndim < 1 or len(outputs) != count:
        raise TaskError(
            f"the model's output has shape {outputs.shape} for {count} samples",
            place=place,
            remedy="its first axis must be the samples; choose one with model.output",
        )
    labels = None if y is None else y[:count]
    for word, source in metrics.items():
        try:
            score(metric(source), word, outputs, labels)
        except StageError as error:
            raise TaskError(
                f"{error} on the given model",
                place=f"metrics.{word}",
                remedy="look at the model's outputs for the test data, and at the labels",
            ) from error
    return list(outputs.shape[1:])


def epoch_s(model: ModelSource, parts: Parts) -> float:
    """Seconds that one training epoch of the given model takes here, told from one batch."""
    if not model.trainable or "train" not in parts:
        return 0.0
    import torch

    from autotune.training import network as networks

    x, _ = parts["train"]
    count = len(next(iter(x.values())))
    batch = min(64, count)
    network = networks.build(model, model.args).train()
    inputs = [torch.from_numpy(np.array(a[:batch])) for a in x.values()]
    seconds = 0.0
    for _ in range(2):  # the first call pays for what is set up once
        begun = time.perf_counter()
        networks.select(network(*inputs), model.output).float().sum().backward()  # type: ignore[no-untyped-call]
        seconds = time.perf_counter() - begun
    return 1.2 * seconds * count / batch


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
