"""TensorRT, or TensorRT-RTX, on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.artifact import Stage
from autotune.contracts import Parameter, Rejection
from autotune.conversion import cuda_profile, export, fp8, qdq, trt_library
from autotune.hardware import gpus
from autotune.profile import Profile
from autotune.space import Is, Settings
from autotune.target import Target
from autotune.task import ModelSource

if TYPE_CHECKING:
    from autotune.contracts import Arrays
    from autotune.conversion.trt_session import Session

summary = "TensorRT on an NVIDIA GPU"
libraries = (trt_library.distribution(),)
_NONE = {
    "int8_dynamic": "TensorRT finds no activation ranges at run time",
    "int8_weights": "TensorRT's products with 8-bit weights alone are not exported yet",
    "int4_weights": "TensorRT's products with 4-bit weights alone are not exported yet",
}


def unavailable() -> str | None:
    if not gpus.driver():
        return "TensorRT runs on an NVIDIA GPU, and this machine has no NVIDIA driver"
    return trt_library.missing()


def parameters() -> tuple[Parameter, ...]:
    return (
        Parameter(
            "level",
            int,
            3,
            low=0,
            high=5,
            help="how long the builder looks for the fastest kernels: 0 not at all, 5 longest",
        ),
        Parameter(
            "workspace", int, 1024, low=1, help="MiB of the GPU that a kernel may use as scratch"
        ),
        Parameter("cuda_graph", bool, True, help="launch a request's kernels as one CUDA graph"),
        Parameter(
            "tf32",
            bool,
            False,
            help="round the factors of fp32 products to 10 bits, which tensor cores multiply",
            when=Is("precision", ("fp32",)),
        ),
        Parameter(
            "floats",
            str,
            "fp16",
            choices=("fp32", "fp16", "bf16"),
            help="what is not quantized beside INT8 or FP8",
            when=Is("precision", ("int8", "fp8")),
        ),
        Parameter("sparse", bool, False, help="use that 2 of 4 weights are zero, where they are"),
    )


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    gpu, precision = target.gpu, str(settings["precision"])
    if gpu is None:
        reason = f"TensorRT runs on an NVIDIA GPU; target '{target.name}' has none (gpu: 0)"
        return Rejection("not on this target", reason)
    if unsupported := trt_library.unsupported(gpu):
        return Rejection("not on this target", unsupported)
    if precision in _NONE:
        kind = "never" if precision == "int8_dynamic" else "not yet ours"
        return Rejection(kind, _NONE[precision])  # type: ignore[arg-type]
    needed = [precision, str(settings.get("tensorrt.floats", "fp32"))]
    needed += ["tf32"] * bool(settings.get("tensorrt.tf32"))
    needed += ["2:4"] * bool(settings.get("tensorrt.sparse"))
    if lacking := [word for word in needed if not gpu.has(word)]:
        reason = f"{gpu.name} (compute capability {gpu.capability}) has no {lacking[0]}"
        return Rejection("not on this target", reason)
    if settings.get("tensorrt.sparse") and settings.get("prune.structure") != "2:4":
        return Rejection("never", "no weights are 2:4 sparse without prune.structure: 2:4")
    if precision == "int8" and settings.get("ptq.scheme") != "symmetric":
        return Rejection("never", "TensorRT rounds around zero alone: ptq.scheme must be symmetric")
    return None


def depends_on_batch(settings: Settings) -> bool:
    return True  # the kernels are chosen for the batch, and an engine takes no other


def stages(settings: Settings, model: Stage, data: Stage) -> Stage:
    from autotune.conversion import trt_build

    precision = str(settings["precision"])
    onnx = export.stage(model, data)
    if precision in ("int8", "fp8"):
        if precision == "int8":
            onnx = qdq.stage(onnx, data, settings, "products")
        else:
            onnx = fp8.stage(onnx, data, settings)
        return trt_build.stage(onnx, data, settings, str(settings["tensorrt.floats"]))
    return trt_build.stage(onnx, data, settings, precision)


@contextmanager
def open(  # noqa: A001 - the contract's word
    artifact: Path, settings: Settings, batch: int, threads: int
) -> Iterator[Session]:
    from autotune.conversion.trt_session import Session

    graph = bool(settings["tensorrt.cuda_graph"])
    index, output = int(settings["gpu.index"]), export.prediction(artifact)
    session = Session(artifact, batch, index, output, graph=graph, threads=threads)
    try:
        yield session
    finally:
        session.close()


def profile(
    artifact: Path, settings: Settings, batch: int, threads: int, requests: Sequence[Arrays]
) -> Profile:
    with open(artifact, settings, batch, threads) as session:
        return cuda_profile.profile(session.run, requests)
