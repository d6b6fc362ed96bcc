"""INT8 quantization of matrix products, with activation ranges found anew for every request."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import graphs
from autotune.conversion.export import FILE
from autotune.errors import StageError
from autotune.plugins import version

PRODUCTS = ("MatMul", "Gemm", "LSTM", "Attention")


def stage(onnx: Stage) -> Stage:
    """The dynamically quantized form of an ONNX model."""
    return Stage(
        name="quantize dynamically",
        function="autotune.conversion.dynamic:run",
        kind="onnx",
        inputs=(onnx,),
        libraries=(version("onnxruntime"), version("onnx")),
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Signed weights with a scale for each output channel; convolutions stay as they are.

    ONNX Runtime's integer convolution with dynamic ranges is slower than its floating point one.

    Raises:
        StageError: The model has no matrix product with constant weights, or the quantizer cannot
            take it.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    model = graphs.load(context.inputs[0])
    there = graphs.constants(model)
    count = sum(n.op_type in PRODUCTS and n.input[1] in there for n in model.graph.node)
    if not count:
        raise StageError(
            "int8_dynamic quantizes matrix products with constant weights "
            f"({', '.join(PRODUCTS)}), and the model has none: {graphs.operators(model)}"
        )
    with tempfile.TemporaryDirectory(dir=context.out) as folder:
        source = Path(folder) / "named.onnx"
        onnx.save(model, str(source))
        try:
            quantize_dynamic(
                str(source),
                str(context.out / FILE),
                op_types_to_quantize=list(PRODUCTS),
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
        except Exception as error:  # whatever the quantizer meets becomes the reason
            words = " ".join(str(error).split())[:500]
            raise StageError(f"the quantizer failed: {type(error).__name__}: {words}") from error
    return {**graphs.finish(context), "quantized": count}
