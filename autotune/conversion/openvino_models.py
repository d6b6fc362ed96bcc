"""From ONNX to OpenVINO models with fewer bits, by NNCF."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from autotune.artifact import Stage
from autotune.contracts import PTQ, StageContext
from autotune.conversion import qdq, sensitivity
from autotune.conversion.export import FILE as ONNX
from autotune.errors import StageError
from autotune.plugins import version
from autotune.space import Settings
from autotune.training.network import SOURCE

FILE = "model.xml"
CONVOLUTIONS = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
)
RANGES = {"minmax": "MINMAX", "percentile": "MEAN_QUANTILE"}
"""NNCF's names of how activation ranges are found, by the words of ``ptq.method``."""
_SMALLEST_GROUP = 16
_REARRANGES = ("Reshape", "Transpose", "Select", "Convert", "Concat", "Multiply")


def quantized(onnx: Stage, data: Stage, settings: Settings) -> Stage:
    """The INT8 form of an ONNX model, by the words of ``ptq`` in ``settings``."""
    asked = {word.name: settings.get(f"ptq.{word.name}", word.default) for word in PTQ}
    kept = (sensitivity.stage(onnx, data),) if asked["keep"] else ()
    return Stage(
        name="quantize",
        function="autotune.conversion.openvino_models:quantize",
        kind="engine",
        parameters={**asked, "ranges": RANGES[str(asked["method"])]},
        inputs=(onnx, data, *kept),
        libraries=(version("openvino"), version("nncf")),
    )


def compressed(onnx: Stage, bits: int, group: int = 0) -> Stage:
    """An ONNX model with the weights of its matrix products in 8 or 4 bits.

    Args:
        onnx: The ONNX model.
        bits: 8, with a scale for each output, or 4.
        group: How many 4-bit weights share a scale.
    """
    return Stage(
        name="quantize weights",
        function="autotune.conversion.openvino_models:compress",
        kind="engine",
        parameters={"bits": bits, **({"group": group} if bits == 4 else {})},
        inputs=(onnx,),
        libraries=(version("openvino"), version("nncf")),
    )


def quantize(context: StageContext) -> Mapping[str, Any]:
    """Post-training quantization of weights and activations.

    Raises:
        StageError: Fewer calibration samples than asked, as many layers kept as there are, or a
            model that NNCF cannot take.
    """
    import nncf
    import openvino as ov

    asked = context.parameters
    x = qdq.calibration(context.inputs[1], int(asked["samples"]))
    count = len(next(iter(x.values())))
    model = ov.Core().read_model(str(context.inputs[0] / ONNX))
    keep = int(asked["keep"])
    kept = _named(model, sensitivity.most(context.inputs[2], keep)) if keep else []
    presets = {
        "mixed": nncf.QuantizationPreset.MIXED,
        "symmetric": nncf.QuantizationPreset.PERFORMANCE,
    }
    attention = attends(model)
    try:
        made = nncf.quantize(
            model,
            nncf.Dataset([{name: a[i : i + 1] for name, a in x.items()} for i in range(count)]),
            preset=presets[str(asked["scheme"])],
            subset_size=count,
            model_type=nncf.ModelType.TRANSFORMER if attention else None,
            ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
            advanced_parameters=_parameters(str(asked["ranges"]), str(asked["granularity"])),
        )
    except (RuntimeError, ValueError, nncf.ValidationError) as error:
        raise StageError(f"NNCF cannot quantize the model: {_words(error)}") from error
    return {**_save(made, context), "samples": count, "attention": attention, "kept": kept}


def compress(context: StageContext) -> Mapping[str, Any]:
    """Weights of matrix products in few bits; activations stay floating point.

    Convolutions keep their weights, because the CPU plug-in would widen them on every request. In
    4 bits, a group that does not divide a layer's inputs becomes the largest smaller one that does,
    and the last layer and tables of embeddings have 8 bits where there are other layers.

    Raises:
        StageError: The model has no matrix product with constant weights.
    """
    import nncf
    import openvino as ov

    model = ov.Core().read_model(str(context.inputs[0] / ONNX))
    products = _products(model)
    if not products:
        raise StageError(
            f"int{context.parameters['bits']}_weights is of matrix products with constant weights, "
            "and the model has none"
        )
    scope = nncf.IgnoredScope(types=list(CONVOLUTIONS), validate=False)
    if context.parameters["bits"] == 8:
        mode = nncf.CompressWeightsMode.INT8_SYM
        made = nncf.compress_weights(model, mode=mode, ignored_scope=scope)
    else:
        made = nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT4_SYM,
            ratio=1.0,
            group_size=int(context.parameters["group"]),
            all_layers=len(products) == 1,
            ignored_scope=scope,
            advanced_parameters=_fallback(),
        )
    return {**_save(made, context), "products": len(products)}


def attends(model: Any) -> bool:
    """Whether an OpenVINO ``model`` has attention: a softmax that goes into a matrix product."""
    return any(_feeds_product(node, 4) for node in model.get_ops() if _kind(node) == "Softmax")


def _feeds_product(node: Any, steps: int) -> bool:
    """Whether ``node`` goes into a product of two activations, at most ``steps`` rearrangements on.

    The classes that a softmax at the end makes go into none.
    """
    after = [place.get_node() for out in node.outputs() for place in out.get_target_inputs()]
    if any(_kind(n) == "MatMul" and not _constant(n.input_value(1)) for n in after):
        return True
    onward = [n for n in after if _kind(n) in _REARRANGES]
    return steps > 0 and any(_feeds_product(n, steps - 1) for n in onward)


def _products(model: Any) -> list[str]:
    """The names of the matrix products with constant weights."""
    found = [node for node in model.get_ops() if _kind(node) == "MatMul"]
    return [n.get_friendly_name() for n in found if _constant(n.input_value(1))]


def _constant(value: Any) -> bool:
    """Whether an input is a constant, which may be converted or rearranged first."""
    node = value.get_node()
    while _kind(node) in ("Convert", "Transpose", "Reshape") and node.get_input_size():
        node = node.input_value(0).get_node()
    return _kind(node) == "Constant"


def _named(model: Any, layers: tuple[str, ...]) -> list[str]:
    """OpenVINO's names of ONNX nodes: the same, or of the product alone where it adds a bias."""
    there = {node.get_friendly_name() for node in model.get_ops() if _kind(node) in _HEAVY}
    found = []
    for layer in layers:
        own = [name for name in (f"{layer}/WithoutBiases", layer) if name in there]
        if not own:
            raise StageError(f"ptq.keep names the layer {layer}, which OpenVINO calls otherwise")
        found.append(own[0])
    return found


_HEAVY = (*CONVOLUTIONS, "MatMul")


def _parameters(ranges: str, granularity: str) -> Any:
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # Smoothing multiplies each channel. Where that follows a mean over places, the CPU plug-in
    # (2026.4) fuses the two and takes other channels' factors, depending on the batch.
    return AdvancedQuantizationParameters(
        smooth_quant_alphas=AdvancedSmoothQuantParameters(convolution=-1, matmul=-1),
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, ranges),
        weights_quantization_params=QuantizationParameters(per_channel=granularity == "channel"),
    )


def _fallback() -> Any:
    from nncf import AdvancedCompressionParameters
    from nncf.quantization.advanced_parameters import GroupSizeFallbackMode

    return AdvancedCompressionParameters(
        group_size_fallback_mode=GroupSizeFallbackMode.ADJUST,
        min_adjusted_group_size=_SMALLEST_GROUP,
    )


def _save(model: Any, context: StageContext) -> dict[str, Any]:
    """Write the artifact; its size in bytes."""
    import openvino as ov

    ov.save_model(model, str(context.out / FILE), compress_to_fp16=False)
    shutil.copy(context.inputs[0] / SOURCE, context.out / SOURCE)
    return {"bytes": sum(p.stat().st_size for p in context.out.glob("model.*"))}


def _kind(node: Any) -> str:
    return str(node.get_type_name())


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]
