"""What a run ran on: recorded with it, so that its numbers can be judged later."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from autotune import hardware, plugins
from autotune.spec import Spec
from autotune.version import __version__

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


def same_measuring(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether figures measured in one environment hold in the other: machines and versions."""
    return _measuring(one) == _measuring(other)


def _measuring(environment: Mapping[str, Any]) -> list[Any]:
    """What a latency hangs on: the lanes' processors, the versions."""
    lanes = {
        name: (t["lane_cores"], t["machine"]["cpu"], list(t["machine"]["flags"]))
        for name, t in environment.get("targets", {}).items()
    }
    return [lanes, environment.get("libraries"), environment.get("autotune")]
