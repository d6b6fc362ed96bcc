"""INT8 quantization of matrix products, with activation ranges found anew for every request."""

from __future__ import annotations

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
_INTEGER = ("MatMulInteger", "DynamicQuantizeLSTM", "QAttention")
"""What the quantizer makes of them."""


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
    The fact ``quantized`` counts the products that became integer ones.

    Raises:
        StageError: The quantizer found no matrix product with constant weights, or cannot take
            the model.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = graphs.load(context.inputs[0])
    with (
        tempfile.TemporaryDirectory(dir=context.out) as folder,
        graphs.blame("the quantizer"),
    ):
        source = Path(folder) / "named.onnx"
        onnx.save(model, str(source))
        quantize_dynamic(
            str(source),
            str(context.out / FILE),
            op_types_to_quantize=list(PRODUCTS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    made = onnx.load(str(context.out / FILE)).graph.node
    count = sum(node.op_type in _INTEGER for node in made)
    if not count:
        raise StageError(
            "int8_dynamic quantizes matrix products with constant weights "
            f"({', '.join(PRODUCTS)}), and the model has none: {graphs.operators(model)}"
        )
    return {**graphs.finish(context), "quantized": count}
