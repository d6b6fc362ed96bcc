"""What kind of file is this? The model that the package magika ships, judged on installed files."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, PackagePath, distribution
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from autotune import Data

MODEL = "models/standard_v3_3"
KINDS = {
    "python": (".py",),
    "javascript": (".js",),
    "css": (".css",),
    "json": (".json",),
    "svg": (".svg",),
    "po": (".po",),
    "markdown": (".md",),
    "rst": (".rst",),
    "csv": (".csv",),
    "yaml": (".yaml", ".yml"),
    "c": (".c",),
    "cpp": (".cc", ".cpp"),
    "fortran": (".f", ".f90"),
    "cmake": (".cmake",),
    "proto": (".proto",),
    "png": (".png",),
    "wav": (".wav",),
    "woff": (".woff",),
    "woff2": (".woff2",),
    "elf": (".so",),
    "gzip": (".gz",),
    "bzip": (".bz2",),
    "xz": (".xz",),
    "npy": (".npy",),
    "npz": (".npz",),
    "onnx": (".onnx",),
    "parquet": (".parquet",),
}
"""The model's word for a kind of file, and the endings that mean it and nothing else."""
PACKAGES = (
    *("django", "moocore", "networkx", "numpy", "onnx", "onnxruntime", "openvino", "pandas"),
    *("plotly", "pyarrow", "ray", "scikit-learn", "scipy", "sympy", "torch"),
)
PER_KIND = 24
EVERY = 4
"""Of each kind's files, one in so many calibrates."""


def data() -> Data:
    """About 100 files to calibrate with and 300 to judge by; no file in two parts, no training."""
    labels = _config()["target_labels_space"]
    test, calibration = [], []
    for kind, endings in KINDS.items():
        for number, tokens in enumerate(_files(endings)):
            part = calibration if number % EVERY == EVERY - 1 else test
            part.append((tokens, labels.index(kind)))
    for part in (test, calibration):  # the first few of a part hold many kinds
        part.sort(key=lambda pair: hashlib.sha256(pair[0]).digest())
    return Data(
        calibration=np.stack([tokens for tokens, _ in calibration]),
        test=(np.stack([tokens for tokens, _ in test]), np.array([label for _, label in test])),
    )


def features(content: bytes) -> np.ndarray | None:
    """What the model reads of a file: shape (2048,), int32; None where it is too short to tell.

    The first 1,024 bytes after leading white space and the last 1,024 before trailing white space,
    each looked for in 4,096 bytes only, and padded with 256 where there are fewer.
    """
    config = _config()
    block, padding = config["block_size"], config["padding_token"]
    first = content[:block].lstrip()[: config["beg_size"]]
    last = content[-block:].rstrip()[-config["end_size"] :]
    if min(len(content), len(first)) < config["min_file_size_for_dl"]:
        return None
    tokens = np.full(config["beg_size"] + config["end_size"], padding, np.int32)
    tokens[: len(first)] = list(first)
    tokens[len(tokens) - len(last) :] = list(last)
    return tokens


def paths(endings: tuple[str, ...]) -> list[Path]:
    """The packages' files with one of these endings, in an order that no machine changes."""
    found = [file for file in _installed() if file.suffix in endings]
    found.sort(key=lambda file: hashlib.sha256(file.as_posix().encode()).digest())
    return [Path(str(file.locate())) for file in found]


@cache
def _installed() -> tuple[PackagePath, ...]:
    """Every file of those of the packages that are installed."""
    found: list[PackagePath] = []
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found += distribution(package).files or ()
    return tuple(found)


def _files(endings: tuple[str, ...]) -> list[np.ndarray]:
    """The features of the first files of a kind, each once."""
    kept: dict[bytes, np.ndarray] = {}
    for path in paths(endings):
        tokens = features(path.read_bytes())
        if tokens is not None:
            kept.setdefault(tokens.tobytes(), tokens)
        if len(kept) == PER_KIND:
            break
    return list(kept.values())


@cache
def _config() -> dict:
    found = find_spec("magika")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the model is the package magika's: pip install magika")
    return json.loads((Path(found.origin).parent / MODEL / "config.min.json").read_text())
