"""The profile of an ONNX file that nothing else is known of: ONNX Runtime as it comes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autotune import hardware, plugins
from autotune.conversion import arrays
from autotune.engine import onnxfile, profiling
from autotune.errors import StageError, TaskError
from autotune.profile import Profile
from autotune.space import Scalar
from autotune.target import Target
from autotune.task import ModelSource
from autotune.training.network import write_source

BACKEND = "onnxruntime"
_REQUESTS = 16
_KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def profile(
    path: Path,
    batch: int,
    threads: int,
    sizes: Mapping[str, int],
    tell: profiling.Tell = lambda _: None,
) -> tuple[Profile, tuple[str, ...]]:
    """Profile a model on random inputs; its profile, and a line on each input.

    Args:
        path: The file.
        batch: The size of a first axis that the model leaves open.
        threads: For a request.
        sizes: Of other axes that it leaves open, by their names; 1 where nothing is said.
        tell: Is told who a lane is waited for, and "" when that is over.

    Raises:
        TaskError: ONNX Runtime cannot open it, cannot run it on such inputs, or an input is of a
            kind that has no random values.
        MachineError: There are fewer cores than threads.
    """
    found = _inputs(path, batch, sizes)
    target = Target("local", threads, 1, None, hardware.machine())
    work = profiling.Work(BACKEND, _defaults(batch, threads), batch, threads, "", "", whole=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        onnxfile.copy(path, folder)
        write_source(ModelSource(onnx=str(path)), folder)
        arrays.write(folder, {"test": (found, None)})
        try:
            taken = profiling.look(work, (folder, folder), target, folder, tell=tell)
        except StageError as error:
            raise TaskError(
                f"it cannot be profiled on {'; '.join(_told(found))}: {error}",
                place=str(path),
                remedy="give the sizes of its open axes with --batch and --dim NAME=SIZE",
            ) from error
    return taken, _told(found)


def _inputs(path: Path, batch: int, sizes: Mapping[str, int]) -> dict[str, arrays.Array]:
    """Random requests of the declared shapes, shape (requests, ...) by the input's name.

    Floats are drawn from a normal distribution, whole numbers from 0 and 1.
    """
    random = np.random.default_rng(0)
    found: dict[str, arrays.Array] = {}
    for given in onnxfile.inputs(path):
        kind = _KINDS.get(given.type)
        if kind is None:
            raise TaskError(
                f"input '{given.name}' is a {given.type}, of which there are no random values",
                place=str(path),
                remedy=f"inputs may be {', '.join(_KINDS)}",
            )
        shape = (_REQUESTS, *_shape(given.shape, batch, sizes))
        floating = np.issubdtype(kind, np.floating)
        drawn: Any = random.standard_normal(shape) if floating else random.integers(0, 2, shape)
        found[given.name] = drawn.astype(kind)
    return found


def _shape(declared: list[Any], batch: int, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of one request: open axes get the batch if they are the first, else their size."""
    return tuple(
        axis if isinstance(axis, int) else sizes.get(str(axis), batch if place == 0 else 1)
        for place, axis in enumerate(declared)
    )


def _told(found: Mapping[str, arrays.Array]) -> tuple[str, ...]:
    shapes = {
        name: "x".join(map(str, array.shape[1:])) or "scalar" for name, array in found.items()
    }
    return tuple(f"{name} {array.dtype} {shapes[name]}" for name, array in found.items())


def _defaults(batch: int, threads: int) -> dict[str, Scalar]:
    """The precision as in the file, and the backend's own knobs as they are by default."""
    known: dict[str, Scalar] = {"precision": "fp32", "batch": batch, "threads": threads}
    for parameter in plugins.load("backends", BACKEND).parameters():
        if parameter.when.holds(known):
            known[f"{BACKEND}.{parameter.name}"] = parameter.default
    return {k: v for k, v in known.items() if k == "precision" or k.startswith(f"{BACKEND}.")}
