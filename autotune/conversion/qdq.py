"""Static INT8 quantization of an ONNX model into QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autotune.artifact import Stage
from autotune.contracts import PTQ, StageContext
from autotune.conversion import arrays, entropy, graphs, sensitivity
from autotune.conversion.export import FILE
from autotune.errors import StageError
from autotune.plugins import version
from autotune.space import Settings

PRODUCTS = ("Conv", "Gemm", "MatMul")
NEVER = ("ConvTranspose",)
"""The quantizer would round these, but ONNX Runtime computes them in floating point anyway."""
FLOATING = ("MatMul", "Gemm")
"""Their results stay floating point where the kernels allow it: closer, and no slower."""
_RENAMED = "/MatMulAddFusion"


def stage(model: Stage, data: Stage, settings: Settings, operators: str = "all") -> Stage:
    """The INT8 form of an ONNX ``model``.

    Args:
        model: The ONNX model.
        data: Its calibration samples.
        settings: Holds the shared words of ``ptq``.
        operators: ``all`` that have an integer kernel, or the ``products`` alone (convolutions and
            matrix products).
    """
    asked = {word.name: settings.get(f"ptq.{word.name}", word.default) for word in PTQ}
    kept = (sensitivity.stage(model, data),) if asked["keep"] else ()
    return Stage(
        name="quantize",
        function="autotune.conversion.qdq:run",
        kind="onnx",
        parameters={
            "operators": operators,
            "never": list(NEVER),
            "floating": list(FLOATING),
            **asked,
        },
        inputs=(model, data, *kept),
        libraries=(version("onnxruntime"), version("onnx")),
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Signed weights, unsigned activations: the layout with integer kernels on x86.

    ONNX Runtime has none on x86 that take signed activations everywhere, so activations around
    zero are unsigned ones whose zero is 128: the same steps.

    Raises:
        StageError: Fewer calibration samples than asked, as many layers kept as there are, values
            without bounds, or a model the quantizer cannot take.
    """
    asked = context.parameters
    x = calibration(context.inputs[1], int(asked["samples"]))
    keep = int(asked["keep"])
    kept = sensitivity.most(context.inputs[2], keep, PRODUCTS) if keep else ()
    try:
        with tempfile.TemporaryDirectory(dir=context.out) as folder, graphs.blame("the quantizer"):
            prepared = _prepared(context.inputs[0], Path(folder))
            _quantize(prepared, context.out / FILE, asked, x, kept)
    except StageError as error:
        if "not finite" in str(error):  # the quantizer's word
            raise StageError(_unbounded("a tensor")) from error
        raise
    integer = _checked(context.out / FILE)
    return {
        **graphs.finish(context),
        "samples": len(next(iter(x.values()))),
        "quantized": integer,
        "kept": list(kept),
    }


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


def _prepared(artifact: Path, folder: Path) -> Path:
    """The model with normalisations folded into its layers and its shapes inferred.

    Without symbolic shapes: their inference fails on legal models, and the quantizer needs types.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, prepared = folder / "named.onnx", folder / "prepared.onnx"
    onnx.save(graphs.load(artifact), str(source))
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    return prepared


def _quantize(
    source: Path,
    target: Path,
    asked: Mapping[str, Any],
    x: Mapping[str, arrays.Array],
    kept: tuple[str, ...],
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    operators = list(PRODUCTS) if asked["operators"] == "products" else None
    symmetric = asked["scheme"] == "symmetric"
    ranges = None
    if asked["method"] == "entropy":  # the quantizer's own has 128 bins, hence whole ranges
        ranges = source.with_name("ranges.json")
        entropy.save(source, x, ranges, operators, symmetric)
    with np.errstate(invalid="ignore"):  # of a range without bounds, which is told later
        quantize_static(
            str(source),
            str(target),
            graphs.Batches(x),
            quant_format=QuantFormat.QDQ,
            calibration_cache_path=ranges,
            op_types_to_quantize=operators,
            nodes_to_exclude=_nodes(source, kept),
            per_channel=asked["granularity"] == "channel",
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[asked["method"]],
            extra_options={
                "ActivationSymmetric": symmetric,
                "OpTypesToExcludeOutputQuantization": list(FLOATING),
            },
        )


def _nodes(prepared: Path, kept: tuple[str, ...]) -> list[str]:
    """The nodes of the prepared model that stay in floating point: the kept layers, and more.

    A product of two activations is kept only if what is next to it does not round its values.
    """
    import onnx

    model = onnx.load(str(prepared))
    there = {node.name for node in model.graph.node}
    names = [name if name in there else name + _RENAMED for name in kept]
    if gone := sorted(set(names) - there):
        raise StageError(f"layers to be kept are not in the prepared model: {', '.join(gone)}")
    constant = graphs.constants(model)
    near: set[str] = set()
    for node in model.graph.node:
        if node.name in names and not set(node.input) & set(constant):
            near |= {*node.input, *node.output}
    others = [n for n in model.graph.node if n.op_type not in PRODUCTS]
    names += [n.name for n in others if near & {*n.input, *n.output}]
    return names + [n.name for n in others if n.op_type in NEVER]


def _checked(path: Path) -> int:
    """How many layers are quantized.

    Raises:
        StageError: None is, or a tensor's range has no bounds.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        scale = tensor.name.endswith("_scale") and numpy_helper.to_array(tensor)
        if scale is not False and not np.isfinite(scale).all():
            raise StageError(_unbounded(tensor.name.removesuffix("_scale")))
    made = {o for n in model.graph.node if n.op_type == "DequantizeLinear" for o in n.output}
    integer = sum(n.op_type in PRODUCTS and set(n.input[:2]) <= made for n in model.graph.node)
    if not integer:
        raise StageError(
            f"no operator of the model has an INT8 kernel ({', '.join(PRODUCTS)} have): it is made "
            f"of {graphs.operators(model)}"
        )
    return integer


def _unbounded(tensor: str) -> str:
    return (
        f"{tensor} takes infinite values, which 8 bits cannot span: mask with a finite number such "
        "as -100, or let onnxruntime.operators be products"
    )
