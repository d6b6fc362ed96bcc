"""The user's ONNX file: opened once, its inputs matched with the data, whole in the artifact."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.conversion import export
from autotune.conversion.arrays import Array, Part
from autotune.errors import TaskError
from autotune.task import INPUT

Parts = Mapping[Part, tuple[dict[str, Array], Array | None]]


def copy(path: Path, folder: Path) -> None:
    """Put the model into an artifact as one file, weights that lie beside it included."""
    import onnx

    if external(path):
        onnx.save(onnx.load(str(path)), str(folder / export.FILE))
    else:
        shutil.copy(path, folder / export.FILE)


def external(path: Path) -> tuple[Path, ...]:
    """The files beside the model that hold its weights; none where it is no ONNX model."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError:  # opening it says so, in better words
        return ()
    names = {ExternalDataInfo(t).location for t in graph.initializer if uses_external_data(t)}
    return tuple(path.parent / name for name in sorted(names))


def fitted(path: Path, found: Parts, place: str) -> Parts:
    """The data under the names of the model's inputs: one plain array is its only input.

    Raises:
        TaskError: ONNX Runtime cannot open the model, its batch is fixed, or the names differ.
    """
    places = _batched(path)
    names = list(next(iter(found.values()))[0])
    wanted = [given.name for given in places]
    if names == [INPUT] and len(wanted) == 1:
        return {part: ({wanted[0]: x[INPUT]}, y) for part, (x, y) in found.items()}
    if set(names) != set(wanted):
        raise TaskError(
            f"the data's inputs are {', '.join(names)}, the model's are {', '.join(wanted)}",
            place=place,
            remedy="give x as a dict with an array for each of the model's inputs, by its name",
        )
    return found


def inputs(path: Path) -> list[Any]:
    """The model's inputs as ONNX Runtime tells them: ``name``, ``type``, ``shape``.

    Raises:
        TaskError: ONNX Runtime cannot open the model.
    """
    import onnxruntime as ort

    try:
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the edge to the user's file
        words = " ".join(str(error).split())[:300]
        raise TaskError(
            f"ONNX Runtime cannot open it: {words}",
            place=str(path),
            remedy="export it again; onnx.checker.check_model tells what is wrong with a file",
        ) from error
    return list(session.get_inputs())


def _batched(path: Path) -> list[Any]:
    """The inputs of a model whose batch is left open."""
    found = inputs(path)
    for given in found:
        if given.shape and isinstance(given.shape[0], int):
            raise TaskError(
                f"the batch of input '{given.name}' is fixed at {given.shape[0]}: {given.shape}",
                place=str(path),
                remedy="export it with a dynamic first axis: torch.onnx.export(..., "
                f"dynamic_axes={{'{given.name}': {{0: 'batch'}}}})",
            )
    return found
