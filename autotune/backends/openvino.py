"""OpenVINO on the CPU; INT8 through NNCF."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.artifact import Stage
from autotune.contracts import Parameter, Rejection, StageContext
from autotune.conversion import export, qdq
from autotune.hardware import bf16_kernels
from autotune.plugins import version
from autotune.space import Settings
from autotune.target import Target
from autotune.task import ModelSource

if TYPE_CHECKING:
    from autotune.contracts import Arrays, Floats

summary = "OpenVINO, CPU plug-in"
libraries = ("openvino",)
FILE = "model.xml"
_TYPES = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_HEAVY = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "Deconvolution", "Gemm")
_WORDS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}


def unavailable() -> str | None:
    if find_spec("openvino") is None:
        return "openvino is not installed: pip install openvino nncf"
    return None


def parameters() -> tuple[Parameter, ...]:
    return (
        Parameter(
            "hint",
            str,
            "latency",
            choices=("latency", "throughput"),
            help="what the plug-in lays the graph out for",
        ),
    )


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    precision = settings["precision"]
    if precision == "fp16":
        return Rejection("not on this target", "openvino runs fp16 only on CPUs with AMX-FP16")
    if precision not in ("fp32", "bf16", "int8"):
        return Rejection("not yet ours", f"openvino takes no {precision} yet")
    if precision == "bf16" and not bf16_kernels(target.machine):
        return Rejection("not on this target", f"{target.machine.cpu} has no bf16 instructions")
    if precision == "int8" and settings.get("ptq.method") == "entropy":
        return Rejection("never", "openvino (NNCF) has no entropy calibration")
    return None


def depends_on_batch(settings: Settings) -> bool:
    return False


def stages(settings: Settings, model: Stage, data: Stage) -> Stage:
    onnx = export.stage(model, data)
    if settings["precision"] != "int8":
        return onnx
    return Stage(
        name="quantize",
        function="autotune.backends.openvino:quantize",
        kind="engine",
        parameters={"samples": settings["ptq.samples"], "method": settings["ptq.method"]},
        inputs=(onnx, data),
        libraries=(version("openvino"), version("nncf")),
    )


def quantize(context: StageContext) -> Mapping[str, Any]:
    """Post-training quantization by NNCF, from ONNX to an OpenVINO model.

    Raises:
        StageError: Fewer calibration samples than asked.
    """
    import nncf
    import openvino as ov

    x = qdq.calibration(context.inputs[1], int(context.parameters["samples"]))
    count = len(next(iter(x.values())))
    model = ov.Core().read_model(str(context.inputs[0] / export.FILE))
    quantized = nncf.quantize(
        model,
        nncf.Dataset([{name: a[i : i + 1] for name, a in x.items()} for i in range(count)]),
        subset_size=count,
        advanced_parameters=_ranges(str(context.parameters["method"])),
    )
    ov.save_model(quantized, str(context.out / FILE), compress_to_fp16=False)
    shutil.copy(context.inputs[0] / "source.json", context.out / "source.json")
    return {"bytes": sum(p.stat().st_size for p in context.out.glob("model.*")), "samples": count}


def _ranges(method: str) -> Any:
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    sets = {
        "minmax": RangeEstimatorParametersSet.MEAN_MINMAX,
        "percentile": RangeEstimatorParametersSet.MEAN_QUANTILE,
    }
    return AdvancedQuantizationParameters(activations_range_estimator_params=sets[method])


@contextmanager
def open(  # noqa: A001 - the contract's word
    artifact: Path, settings: Settings, batch: int, threads: int
) -> Iterator[_Session]:
    import openvino as ov

    core = ov.Core()
    quantized = artifact / FILE
    model = core.read_model(str(quantized if quantized.exists() else artifact / export.FILE))
    shapes = {}
    for place in model.inputs:
        shape = place.get_partial_shape()
        shape[0] = batch
        shapes[place] = shape
    model.reshape(shapes)
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": str(settings["openvino.hint"]).upper(),
            "INFERENCE_PRECISION_HINT": _TYPES[str(settings["precision"])],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        },
    )
    yield _Session(compiled, export.prediction(artifact))


class _Session:
    def __init__(self, compiled: Any, output: int | str) -> None:
        self._compiled = compiled
        self._output = compiled.output(output)
        self._request = compiled.create_infer_request()

    def run(self, batch: Arrays) -> Floats:
        self._request.infer(batch, share_inputs=True, share_outputs=True)
        output: Floats = self._request.get_tensor(self._output).data.copy()
        return output

    def facts(self) -> Mapping[str, Any]:
        operators: Counter[str] = Counter()
        kernels: Counter[str] = Counter()
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            kind = str(node.get_rt_info()["layerType"].astype(str))
            operators[kind] += 1
            if kind in _HEAVY:
                word = str(node.get_rt_info()["runtimePrecision"].astype(str))
                kernels[_WORDS.get(word, word)] += 1
        return {
            "provider": "CPU",
            "threads": self._compiled.get_property("INFERENCE_NUM_THREADS"),
            "kernels": dict(kernels),
            "operators": dict(operators.most_common()),
        }
