"""Static INT8 quantization of an ONNX model into QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, graphs
from autotune.conversion.export import FILE
from autotune.errors import StageError
from autotune.plugins import version


def stage(model: Stage, data: Stage, samples: int, method: str) -> Stage:
    """The INT8 form of an ONNX ``model``, calibrated on ``samples`` samples."""
    return Stage(
        name="quantize",
        function="autotune.conversion.qdq:run",
        kind="onnx",
        parameters={"samples": samples, "method": method},
        inputs=(model, data),
        libraries=(version("onnxruntime"), version("onnx")),
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Per-channel signed weights, unsigned activations: the layout with integer kernels on x86.

    Raises:
        StageError: Fewer calibration samples than asked, or a model the quantizer cannot take.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)
    x = calibration(context.inputs[1], int(context.parameters["samples"]))
    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    source = context.inputs[0] / FILE
    with tempfile.TemporaryDirectory(dir=context.out) as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared))
        quantize_static(
            str(prepared),
            str(context.out / FILE),
            graphs.Batches(x),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[context.parameters["method"]],
        )
    for name in ("source.json",):
        shutil.copy(context.inputs[0] / name, context.out / name)
    return {"bytes": (context.out / FILE).stat().st_size, "samples": len(next(iter(x.values())))}


def calibration(data: Path, samples: int) -> dict[str, arrays.Array]:
    """The first ``samples`` calibration samples by input name.

    Raises:
        StageError: There are fewer.
    """
    x = arrays.read(data, "calibration", limit=samples)
    have = len(next(iter(x.values()))) if x else 0
    if have < samples:
        raise StageError(f"{samples} calibration samples asked for, the data has {have}")
    return x
