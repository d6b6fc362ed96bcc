"""Static FP8 quantization of an ONNX model: products of numbers of 8 bits, E4M3.

Four bits of exponent and three of mantissa, around zero (Micikevicius et al., FP8 Formats for Deep
Learning, 2022). A tensor has one scale, which moves its largest magnitude to the largest number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, graphs, qdq
from autotune.conversion.export import FILE
from autotune.errors import StageError
from autotune.plugins import version
from autotune.space import Settings

LARGEST = 448.0
"""The largest number of E4M3."""
OPSET = 19
"""The first in which QuantizeLinear makes such numbers."""
_LEAST = 2.0**-20
"""A scale below it would be nothing in a network whose other numbers have 16 bits."""
_ZERO = "fp8_zero"


def stage(model: Stage, data: Stage, settings: Settings) -> Stage:
    """The FP8 form of an ONNX ``model``; ``data`` has its calibration samples."""
    return Stage(
        name="quantize",
        function="autotune.conversion.fp8:run",
        kind="onnx",
        parameters={"samples": int(settings["ptq.samples"]), "operators": list(qdq.PRODUCTS)},
        inputs=(model, data),
        libraries=(version("onnxruntime"), version("onnx")),
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Pairs of QuantizeLinear and DequantizeLinear in front of the products' factors.

    Raises:
        StageError: Fewer calibration samples than asked, no product in the model, values without
            bounds, or a model that cannot be brought to opset 19.
    """
    import onnx

    samples = int(context.parameters["samples"])
    x = qdq.calibration(context.inputs[1], samples)
    model = rounded(_newer(graphs.load(context.inputs[0])), x)
    onnx.save(model, str(context.out / FILE))
    count = sum(node.op_type in qdq.PRODUCTS for node in model.graph.node)
    return {**graphs.finish(context), "samples": samples, "quantized": count}


def rounded(model: Any, x: Mapping[str, arrays.Array]) -> Any:
    """``model``, of opset 19 or later, with pairs in front of the factors of its products.

    Args:
        model: Changed in place.
        x: Calibration samples by input name.

    Raises:
        StageError: It has no product, or a factor takes infinite values.
    """
    from onnx import TensorProto, helper, numpy_helper

    products = [node for node in model.graph.node if node.op_type in qdq.PRODUCTS]
    if not products:
        raise StageError(
            f"the model has none of {', '.join(qdq.PRODUCTS)}: it is made of "
            f"{graphs.operators(model)}"
        )
    factors = dict.fromkeys(name for node in products for name in node.input[:2])
    largest = _largest(model, list(factors), x)
    zero = helper.make_tensor(_ZERO, TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True)
    model.graph.initializer.append(zero)
    pairs = {}
    for name in factors:
        scale = np.float32(max(_bounded(name, largest[name]) / LARGEST, _LEAST))
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(scale), f"{name}_scale"))
        pairs[name] = _pair(name)
    for node in products:
        node.input[:2] = [pairs[name][1].output[0] for name in node.input[:2]]
    graphs.keep(model.graph.node, _placed(model, pairs))
    del model.graph.value_info[:]
    return model


def _newer(model: Any) -> Any:
    """The model in an opset that has numbers of 8 bits, its names and constants as ``load`` does.

    Raises:
        StageError: An operator of it cannot be brought there.
    """
    from onnx import version_converter

    now = max(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if now >= OPSET:
        return model
    with graphs.blame(f"bringing the model to opset {OPSET}"):
        return graphs.plain(version_converter.convert_version(model, OPSET))


def _pair(name: str) -> tuple[Any, Any]:
    from onnx import helper

    quantize, dequantize = (f"{name}_{kind}" for kind in ("quantize", "dequantize"))
    about = (f"{name}_scale", _ZERO)
    return (
        helper.make_node("QuantizeLinear", [name, *about], [f"{name}_fp8"], quantize),
        helper.make_node("DequantizeLinear", [f"{name}_fp8", *about], [f"{name}_read"], dequantize),
    )


def _placed(model: Any, pairs: Mapping[str, tuple[Any, Any]]) -> list[Any]:
    """The nodes, each pair behind what makes its tensor; those of what is given come first."""
    made = {name for node in model.graph.node for name in node.output}
    found = [node for name, pair in pairs.items() if name not in made for node in pair]
    for node in model.graph.node:
        found.append(node)
        found += [one for name in node.output if name in pairs for one in pairs[name]]
    return found


def _largest(model: Any, names: list[str], x: Mapping[str, arrays.Array]) -> dict[str, float]:
    """The largest magnitude of each tensor: of its values if constant, else over the samples."""
    import onnx
    from onnx import numpy_helper

    constant = graphs.constants(model)
    found = {
        name: float(np.abs(numpy_helper.to_array(constant[name])).max(initial=0.0))
        for name in names
        if name in constant
    }
    found |= {name: float(np.abs(x[name]).max()) for name in names if name in x}
    computed = [name for name in names if name not in found]
    observed = type(model).FromString(model.SerializeToString())
    given = {place.name for place in observed.graph.output}
    more = [onnx.ValueInfoProto(name=name) for name in computed if name not in given]
    observed.graph.output.extend(more)
    with graphs.blame("ONNX Runtime"):
        session = graphs.session(observed, "ORT_ENABLE_BASIC")
        for sample in range(len(next(iter(x.values()))) if computed else 0):
            for name, values in zip(
                computed, session.run(computed, arrays.rows(x, sample, 1)), strict=True
            ):
                most = float(np.abs(values).max(initial=0.0))
                found[name] = max(found.get(name, 0.0), most)
    return found


def _bounded(name: str, largest: float) -> float:
    if not np.isfinite(largest):
        raise StageError(
            f"{name} takes infinite values, which 8 bits cannot span: mask with a finite number "
            "such as -100"
        )
    return largest
