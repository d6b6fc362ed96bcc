"""What a run ran on: recorded with it, so that its numbers can be judged later."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

from autotune import __version__, hardware, plugins
from autotune.spec import Spec

_SHAPING = ("numpy", "onnx", "nncf", "torch-pruning", "ray", "optuna")


def environment(spec: Spec) -> dict[str, Any]:
    """Machine, targets, versions and seed, as plain data."""
    backends = (plugins.load("backends", name).libraries for name in plugins.names("backends"))
    names = sorted({*_SHAPING, *(library for libraries in backends for library in libraries)})
    versions = dict(plugins.version(name).split("==") for name in names)
    return {
        "autotune": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": asdict(hardware.machine()),
        "targets": {t.name: asdict(t) for t in spec.targets},
        "libraries": versions,
        "seed": spec.seed,
    }
