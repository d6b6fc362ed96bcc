"""TensorRT or TensorRT-RTX, whichever is installed, and all in which the two differ."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from autotune.hardware.gpus import EXTRA
from autotune.target import Gpu

FULL = "tensorrt"
RTX = "tensorrt_rtx"
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""The GPUs that TensorRT-RTX builds engines for; it builds them without one, too."""


def installed() -> str | None:
    """The module's name: TensorRT before TensorRT-RTX; None where neither is there."""
    for name in (FULL, RTX):
        if find_spec(name) is not None:
            return name
    return None


def distribution() -> str:
    """The installed distribution, whose version shapes engines."""
    return {RTX: "tensorrt-rtx"}.get(installed() or "", FULL)


def missing() -> str | None:
    """Why engines cannot be built or run here; None where the libraries for it are there."""
    if installed() is None:
        return f"neither tensorrt nor tensorrt-rtx is installed: {EXTRA}"
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return f"cuda-bindings is not installed, which runs engines: {EXTRA}"
    return None


def unsupported(gpu: Gpu) -> str | None:
    """Why the installed library builds no engines for this GPU; None if it does."""
    if installed() == RTX and gpu.capability not in RTX_CAPABILITIES:
        known = ", ".join(RTX_CAPABILITIES)
        return (
            f"TensorRT-RTX builds engines for compute capability {known}; {gpu.name} has "
            f"{gpu.capability}: install tensorrt"
        )
    if gpu.generation < (7, 5):
        return f"TensorRT needs compute capability 7.5; {gpu.name} has {gpu.capability}"
    return None


def module() -> Any:
    """The library, imported.

    Raises:
        ImportError: Neither is installed.
    """
    from importlib import import_module

    name = installed()
    if name is None:
        raise ImportError(missing())
    return import_module(name)


def aim(config: Any, trt: Any, capability: str) -> None:
    """Let ``config`` build for a GPU of this compute capability: RTX may have none before it."""
    if trt.__name__.startswith(RTX):
        config.num_compute_capabilities = 1
        word = f"SM{capability.replace('.', '')}"
        config.set_compute_capability(trt.ComputeCapability.__members__[word], 0)


def network_flags(trt: Any) -> int:
    """The network computes in the types that the model says; RTX and TensorRT 11 know no other."""
    flag = trt.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    return 0 if flag is None else 1 << int(flag)


def execution_context(engine: Any, trt: Any) -> Any:
    """What runs ``engine``; RTX would else finish its kernels only while the first requests run."""
    if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    strategies = trt.DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    return engine.create_execution_context(config)


class Said:
    """What the library said since it was last asked, by severity."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []

    def errors(self) -> str:
        """The errors and warnings in one line, at most 500 characters."""
        bad = [words for severity, words in self.lines if severity <= _WARNING]
        return " ".join(" ".join(bad).split())[:500]

    def layers(self) -> str:
        """The layers of the engine built last, one a line, as the inspector writes them."""
        told = [words for _, words in self.lines if words.startswith("Layers:")]
        return told[-1] if told else ""


_WARNING = 2
"""ILogger.Severity: 0 internal error, 1 error, 2 warning, 3 info, 4 verbose."""


@cache
def logger() -> tuple[Any, Said]:
    """The process's one logger (the library keeps to the first that it gets) and what it heard."""
    trt = module()
    said = Said()

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            said.lines.append((int(severity), message))

    return Logger(), said
