"""The data artifact: every array as one ``.npy`` file, read without the user's code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "calibration", "test"]
Array = NDArray[np.generic]
INDEX = "data.json"


def write(
    folder: Path, parts: Mapping[Part, tuple[Mapping[str, Array], Array | None]]
) -> Mapping[str, int]:
    """Write (x by input name, y) of each part; the number of samples of each."""
    index: dict[str, dict[str, object]] = {}
    for part, (x, y) in parts.items():
        for place, array in enumerate(x.values()):
            np.save(folder / f"{part}.x{place}.npy", np.ascontiguousarray(array))
        if y is not None:
            np.save(folder / f"{part}.y.npy", np.ascontiguousarray(y))
        index[part] = {"inputs": list(x), "labels": y is not None}
    (folder / INDEX).write_text(json.dumps(index))
    return {part: len(next(iter(x.values()))) for part, (x, _) in parts.items()}


def read(folder: Path, part: Part, limit: int | None = None) -> dict[str, Array]:
    """The inputs of a part by name, at most ``limit`` samples; empty where it is absent."""
    index = json.loads((folder / INDEX).read_text())
    names = index.get(part, {"inputs": []})["inputs"]
    return {
        name: np.array(np.load(folder / f"{part}.x{place}.npy", mmap_mode="r")[:limit])
        for place, name in enumerate(names)
    }


def labels(folder: Path, part: Part) -> Array | None:
    """The labels of a part, or None."""
    path = folder / f"{part}.y.npy"
    return np.load(path) if path.exists() else None


def rows(x: Mapping[str, Array], start: int, count: int) -> dict[str, Array]:
    """``count`` samples from ``start`` on, contiguous, beginning anew at the end."""
    total = len(next(iter(x.values())))
    index = np.arange(start, start + count) % total
    return {name: np.ascontiguousarray(array[index]) for name, array in x.items()}
