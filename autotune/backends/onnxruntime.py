"""ONNX Runtime on the CPU, or on an NVIDIA GPU."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.artifact import Stage
from autotune.contracts import Parameter, Rejection
from autotune.conversion import (
    cuda_profile,
    dynamic,
    export,
    fuse,
    onnxruntime_cuda,
    onnxruntime_flags,
    onnxruntime_profile,
    qdq,
    simplify,
    weights,
)
from autotune.conversion.onnxruntime_flags import WEIGHTS
from autotune.measure import spans
from autotune.profile import Profile
from autotune.space import Settings
from autotune.target import Target
from autotune.task import ModelSource

if TYPE_CHECKING:
    from autotune.contracts import Arrays, Floats

summary = "ONNX Runtime: CPU, CUDA and TensorRT execution providers"
libraries = ("onnxruntime",)
_INTEGER = (
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "QAttention",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
)
_HEAVY = (
    "Conv",
    "FusedConv",
    "Gemm",
    "FusedGemm",
    "MatMul",
    "FusedMatMul",
    "ConvTranspose",
    "LSTM",
    "GRU",
    "Attention",
)
_GROUP = 32
"""How many 8-bit weights share a scale."""


def unavailable() -> str | None:
    if find_spec("onnxruntime") is None:
        return "onnxruntime is not installed: pip install onnxruntime"
    return onnxruntime_cuda.both()


def parameters() -> tuple[Parameter, ...]:
    return (*onnxruntime_flags.parameters(), *onnxruntime_cuda.PARAMETERS)


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    precision = settings["precision"]
    if target.gpu is not None:
        return onnxruntime_cuda.reject(settings, target.gpu)
    if precision in ("bf16", "fp16", "fp8"):
        return Rejection(
            "not yet upstream", f"onnxruntime has no {precision} kernels for convolutions on CPUs"
        )
    if precision == "int8" and settings.get("onnxruntime.level") in ("disabled", "basic"):
        return Rejection(
            "never", "onnxruntime makes integer kernels of INT8 only from level extended up"
        )
    return None


def depends_on_batch(settings: Settings) -> bool:
    return settings["precision"] == "int8_dynamic"


def stages(settings: Settings, model: Stage, data: Stage) -> Stage:
    precision = str(settings["precision"])
    onnx = export.stage(model, data)
    if settings.get("onnxruntime.transformer_fusion", False):
        onnx = fuse.stage(onnx)  # before simplifying, which hides what it looks for
    if settings.get("onnxruntime.simplify", False):
        onnx = simplify.stage(onnx)
    if "gpu.index" in settings:
        return onnxruntime_cuda.stage(onnx, settings)
    if precision == "int8":
        return qdq.stage(onnx, data, settings, str(settings.get("onnxruntime.operators", "all")))
    if precision == "int8_dynamic":
        return dynamic.stage(onnx)
    if precision in WEIGHTS:
        group = int(settings["weights.group"]) if precision == "int4_weights" else _GROUP
        arithmetic = str(settings.get("onnxruntime.arithmetic", "float"))
        return weights.stage(onnx, WEIGHTS[precision], group, arithmetic)
    return onnx


@contextmanager
def open(  # noqa: A001 - the contract's word
    artifact: Path, settings: Settings, batch: int, threads: int
) -> Iterator[_Session | onnxruntime_cuda.Session]:
    yield _opened(artifact, settings, batch, threads)


def profile(
    artifact: Path, settings: Settings, batch: int, threads: int, requests: Sequence[Arrays]
) -> Profile:
    if "gpu.index" in settings:
        return cuda_profile.profile(_opened(artifact, settings, batch, threads).run, requests)
    precision = str(settings["precision"])
    model = artifact / export.FILE, settings, batch, threads, export.prediction(artifact)
    with tempfile.TemporaryDirectory() as folder:
        session = _Session(*model, Path(folder) / "trace")
        spans.walls_ms(session.run, requests[: spans.WARM_UP])
        walls = spans.walls_ms(session.run, requests)
        return onnxruntime_profile.profile(
            session.trace(), walls, lambda operator: _kernel(operator, precision)
        )


def _kernel(operator: str, precision: str) -> str | None:
    """The word for what an operator's kernel computes in; None where its inputs tell it."""
    if operator.startswith(_INTEGER):
        return "int8_dynamic" if precision == "int8_dynamic" else "int8"
    return precision if operator == "MatMulNBits" else None


def _opened(
    artifact: Path, settings: Settings, batch: int, threads: int
) -> _Session | onnxruntime_cuda.Session:
    path, output = artifact / export.FILE, export.prediction(artifact)
    if "gpu.index" not in settings:
        return _Session(path, settings, batch, threads, output)

    def make(providers: list[Any], trace: Path | None) -> Any:
        return _session(path, settings, batch, threads, trace=trace, providers=providers)

    return onnxruntime_cuda.Session(make, settings, threads, output)


class _Session:
    def __init__(
        self,
        path: Path,
        settings: Settings,
        batch: int,
        threads: int,
        output: int | str,
        trace: Path | None = None,
    ) -> None:
        self._open = (path, settings, batch, threads)
        self._session = _session(*self._open, trace=trace)
        names = [place.name for place in self._session.get_outputs()]
        self._output = [names[output] if isinstance(output, int) else output]

    def run(self, batch: Arrays) -> Floats:
        outputs: list[Floats] = self._session.run(self._output, batch)
        return outputs[0]

    def trace(self) -> Path:
        """The file with what was profiled; nothing is from here on."""
        return Path(self._session.end_profiling())

    def facts(self) -> Mapping[str, Any]:
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
            _session(*self._open, optimized=optimized)
            graph = onnx.load(str(optimized), load_external_data=False).graph
        kinds = Counter(node.op_type for node in graph.node)
        return {
            "provider": self._session.get_providers()[0],
            "threads": self._session.get_session_options().intra_op_num_threads,
            "kernels": _kernels(graph.node),
            "operators": dict(kinds.most_common()),
        }


def _session(
    path: Path,
    settings: Settings,
    batch: int,
    threads: int,
    optimized: Path | None = None,
    trace: Path | None = None,
    providers: Sequence[Any] = ("CPUExecutionProvider",),
) -> Any:
    import onnxruntime as ort

    level = {
        "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = level[str(settings["onnxruntime.level"])]
    options.add_free_dimension_override_by_name(export.BATCH, batch)
    spinning = "1" if settings.get("onnxruntime.spinning", True) else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if trace is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(trace)
    return ort.InferenceSession(
        str(path),
        options,
        providers=list(providers),
        disabled_optimizers=onnxruntime_flags.disabled(settings) or None,
    )


def _kernels(nodes: Sequence[Any]) -> dict[str, int]:
    """How many heavy nodes there are of each precision, by its word."""
    found: Counter[str] = Counter(fp32=0)
    dynamic = any(node.op_type.startswith("DynamicQuantize") for node in nodes)
    for node in nodes:
        if node.op_type.startswith(_INTEGER):
            found["int8_dynamic" if dynamic else "int8"] += 1
        elif node.op_type == "MatMulNBits":
            bits = next(a.i for a in node.attribute if a.name == "bits")
            found[next(word for word, n in WEIGHTS.items() if n == bits)] += 1
        elif node.op_type in _HEAVY:
            found["fp32"] += 1
    return dict(found)
