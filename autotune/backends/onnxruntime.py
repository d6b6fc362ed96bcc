"""ONNX Runtime on the CPU."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.artifact import Stage
from autotune.contracts import Parameter, Rejection
from autotune.conversion import export, qdq
from autotune.space import Is, Settings
from autotune.target import Target
from autotune.task import ModelSource

if TYPE_CHECKING:
    from autotune.contracts import Arrays, Floats

summary = "ONNX Runtime, CPU execution provider"
libraries = ("onnxruntime",)
LEVELS = ("disabled", "basic", "extended", "all")
_CONV_FUSIONS = ("ConvActivationFusion", "ConvAddActivationFusion")
_INTEGER = (
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
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
)


def unavailable() -> str | None:
    if find_spec("onnxruntime") is None:
        return "onnxruntime is not installed: pip install onnxruntime"
    return None


def parameters() -> tuple[Parameter, ...]:
    fused = Is("onnxruntime.level", ("extended", "all"))
    return (
        Parameter("level", str, "all", choices=LEVELS, help="graph optimization level"),
        Parameter(
            "conv_fusion", bool, True, help="fuse convolution, sum and activation", when=fused
        ),
        Parameter(
            "nchwc",
            bool,
            True,
            help="blocked memory layout for convolutions",
            when=Is("onnxruntime.level", ("all",)),
        ),
        Parameter("spinning", bool, True, help="idle threads spin instead of sleeping"),
    )


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    precision = settings["precision"]
    if precision in ("bf16", "fp16"):
        return Rejection(
            "not yet upstream", f"onnxruntime has no {precision} kernels for convolutions on CPUs"
        )
    if precision not in ("fp32", "int8"):
        return Rejection("not yet ours", f"onnxruntime takes no {precision} yet")
    if precision == "int8" and settings.get("onnxruntime.level") in ("disabled", "basic"):
        return Rejection(
            "never", "onnxruntime makes integer kernels of INT8 only from level extended up"
        )
    return None


def depends_on_batch(settings: Settings) -> bool:
    return False


def stages(settings: Settings, model: Stage, data: Stage) -> Stage:
    onnx = export.stage(model, data)
    if settings["precision"] != "int8":
        return onnx
    return qdq.stage(onnx, data, int(settings["ptq.samples"]), str(settings["ptq.method"]))


@contextmanager
def open(  # noqa: A001 - the contract's word
    artifact: Path, settings: Settings, batch: int, threads: int
) -> Iterator[_Session]:
    output = export.prediction(artifact)
    yield _Session(artifact / export.FILE, settings, batch, threads, output)


class _Session:
    def __init__(
        self, path: Path, settings: Settings, batch: int, threads: int, output: int | str
    ) -> None:
        self._open = (path, settings, batch, threads)
        self._session = _session(path, settings, batch, threads)
        names = [place.name for place in self._session.get_outputs()]
        self._output = [names[output] if isinstance(output, int) else output]

    def run(self, batch: Arrays) -> Floats:
        outputs: list[Floats] = self._session.run(self._output, batch)
        return outputs[0]

    def facts(self) -> Mapping[str, Any]:
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
            _session(*self._open, optimized=optimized)
            graph = onnx.load(str(optimized), load_external_data=False).graph
        kinds = Counter(node.op_type for node in graph.node)
        integer = sum(n for kind, n in kinds.items() if kind.startswith(_INTEGER))
        return {
            "provider": self._session.get_providers()[0],
            "threads": self._session.get_session_options().intra_op_num_threads,
            "kernels": {"int8": integer, "fp32": sum(kinds[kind] for kind in _HEAVY)},
            "operators": dict(kinds.most_common()),
        }


def _session(
    path: Path, settings: Settings, batch: int, threads: int, optimized: Path | None = None
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
    return ort.InferenceSession(
        str(path),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=_disabled(settings) or None,
    )


def _disabled(settings: Settings) -> list[str]:
    fusions = list(_CONV_FUSIONS) if not settings.get("onnxruntime.conv_fusion", True) else []
    layout = ["NchwcTransformer"] if not settings.get("onnxruntime.nchwc", True) else []
    return fusions + layout
