"""What a model is fed with while it is measured: its own data, the user's, or drawn values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotune.conversion import export, openvino_models, trt_build
from autotune.conversion.arrays import Array
from autotune.engine import onnxfile
from autotune.errors import TaskError
from autotune.task import INPUT

SEED = 0
DRAWN = 64
"""Samples are drawn so many at least; of large batches as many as 16 distinct ones take."""
_DISTINCT = 16
_MOST_BYTES = 2**28
_KINDS = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class Input:
    """An input as the model declares it: an open axis is a word; the first axis is the batch."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {'x'.join(str(axis) for axis in self.shape)}"


def declared(artifact: Path) -> tuple[Input, ...]:
    """The inputs that the model in the folder declares; none where it is a torch network."""
    made = artifact / openvino_models.FILE
    if made.exists():
        return _openvino(made)
    if (artifact / trt_build.RECORD).exists():
        return _engine(artifact)
    path = artifact / export.FILE
    if not path.exists():
        return ()
    return tuple(
        Input(
            given.name,
            _KINDS.get(given.type, given.type),
            tuple(axis if isinstance(axis, int) else str(axis) for axis in given.shape),
        )
        for given in onnxfile.inputs(path)
    )


def _engine(artifact: Path) -> tuple[Input, ...]:
    low, high = trt_build.read(artifact)[0].batches
    first = high if low == high else export.BATCH
    found = trt_build.inputs(artifact).items()
    return tuple(Input(name, kind, (first, *shape)) for name, (kind, shape) in found)


def _openvino(path: Path) -> tuple[Input, ...]:
    import openvino as ov

    def shape(place: Any) -> tuple[int | str, ...]:
        axes = place.get_partial_shape()
        return tuple(axis.get_length() if axis.is_static else "?" for axis in axes)

    return tuple(
        Input(place.any_name, str(np.dtype(place.get_element_type().to_dtype())), shape(place))
        for place in ov.Core().read_model(str(path)).inputs
    )


def fixed_batch(inputs: Sequence[Input]) -> int | None:
    """The batch that the model was made for; None where it takes any."""
    found = [given.shape[0] for given in inputs if given.shape]
    return next((axis for axis in found if isinstance(axis, int)), None)


def draw(
    inputs: Sequence[Input], batch: int, sizes: Mapping[str, int], place: str
) -> dict[str, Array]:
    """Samples of the declared shapes: normal numbers, whole ones of 0 and 1, the same every time.

    Args:
        inputs: As the model declares them.
        batch: In one request.
        sizes: Of open axes, by their names.
        place: The model, for errors.

    Raises:
        TaskError: An axis is open, a kind has no such values, or nothing is declared.
    """
    if not inputs:
        raise TaskError(
            "nothing declares the shapes of its inputs", place=place, remedy="give samples: --data"
        )
    random = np.random.default_rng(SEED)
    shapes = {given.name: _sample(given, sizes, place) for given in inputs}
    size = 8 * sum(int(np.prod(shape)) for shape in shapes.values())
    count = max(1, min(max(DRAWN, _DISTINCT * batch), _MOST_BYTES // size))
    found: dict[str, Array] = {}
    for given in inputs:
        kind = np.dtype(given.dtype)
        shape = (count, *shapes[given.name])
        floating = np.issubdtype(kind, np.floating)
        drawn = random.standard_normal(shape) if floating else random.integers(0, 2, shape)
        found[given.name] = drawn.astype(kind)
    return found


def _sample(given: Input, sizes: Mapping[str, int], place: str) -> tuple[int, ...]:
    """The shape of one sample."""
    if given.dtype not in _KINDS.values():
        raise TaskError(
            f"input '{given.name}' is a {given.dtype}, of which no values are drawn",
            place=place,
            remedy="give samples: --data",
        )
    if not given.shape:
        raise TaskError(
            f"input '{given.name}' has no axis for the samples",
            place=place,
            remedy="every input's first axis must be the batch",
        )
    axes = [sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in given.shape[1:]]
    names = [str(axis) for axis in axes if isinstance(axis, str)]
    if names:
        raise TaskError(
            f"input '{given}' leaves the axis '{names[0]}' open",
            place=place,
            remedy=f"say how long it is, --dim {names[0]}=128, or give samples: --data",
        )
    return tuple(int(axis) for axis in axes)


def read(path: Path, inputs: Sequence[Input]) -> dict[str, Array]:
    """The user's samples: one array (``.npy``), named ones (``.npz``), or a folder of ``.npy``.

    Raises:
        TaskError: There are none, they cannot be read, or they are not what the model declares.
    """
    found = _arrays(path)
    if inputs and list(found) == [INPUT] and len(inputs) == 1:
        found = {inputs[0].name: found[INPUT]}
    counts = {len(array) if array.ndim else 0 for array in found.values()}
    if len(counts) != 1 or counts == {0}:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
        raise TaskError(
            f"the arrays do not hold one sample a row: {shapes or 'there are none'}",
            place=str(path),
            remedy="give arrays of equal length, whose first axis is the samples",
        )
    wanted = [given.name for given in inputs]
    if inputs and set(found) != set(wanted):
        raise TaskError(
            f"the data's inputs are {', '.join(found)}, the model's are {', '.join(wanted)}",
            place=str(path),
            remedy="name the arrays of an .npz, or the files of a folder, as the model's inputs",
        )
    for given in inputs:
        _fits(found[given.name], given, path)
    return found


def _fits(array: Array, given: Input, path: Path) -> None:
    pairs = zip(given.shape[1:], array.shape[1:], strict=False)
    same = all(isinstance(axis, str) or axis == size for axis, size in pairs)
    if str(array.dtype) != given.dtype or array.ndim != len(given.shape) or not same:
        raise TaskError(
            f"the array is {array.dtype} {array.shape}, the model's input is {given}",
            place=f"{path}: {given.name}",
            remedy="save it as the model wants it, for example x.astype('float32')",
        )


def _arrays(path: Path) -> dict[str, Array]:
    try:
        if path.is_dir():
            return {file.stem: np.load(file) for file in sorted(path.glob("*.npy"))}
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            return {INPUT: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError) as error:
        raise TaskError(
            f"it cannot be read as an array: {' '.join(str(error).split())[:200]}",
            place=str(path),
            remedy="give an .npy or .npz file that numpy.save wrote, or a folder of .npy files",
        ) from error
