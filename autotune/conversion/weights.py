"""Weights of matrix products in 8 or 4 bits, in groups that share a scale (MatMulNBits)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import graphs
from autotune.conversion.export import FILE
from autotune.errors import StageError
from autotune.plugins import version

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = {"float": 1, "int8": 4}
"""ONNX Runtime's ``accuracy_level`` of the kinds of arithmetic."""


def stage(onnx: Stage, bits: int, group: int, arithmetic: str) -> Stage:
    """The weight-only quantized form of an ONNX model.

    Args:
        onnx: The ONNX model.
        bits: 8 or 4.
        group: How many weights of an output share a scale: a power of 2, 16 or more.
        arithmetic: ``float``; or ``int8``, which rounds activations to 8 bits in groups too.
    """
    return Stage(
        name="quantize weights",
        function="autotune.conversion.weights:run",
        kind="onnx",
        parameters={"bits": bits, "group": group, "arithmetic": arithmetic},
        inputs=(onnx,),
        libraries=(version("onnx"),),
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Replace every matrix product whose second factor is constant.

    Raises:
        StageError: The model has none.
    """
    import onnx

    asked = context.parameters
    model = graphs.load(context.inputs[0])
    there = graphs.constants(model)
    nodes: list[Any] = []
    count = 0
    for node in model.graph.node:
        weights = _weights(node, there)
        if weights is None:
            nodes.append(node)
            continue
        packed, scales = pack(weights, int(asked["bits"]), int(asked["group"]))
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(values, f"{node.name}/{word}")
            for word, values in (("packed", packed), ("scales", scales))
        )
        nodes += _replaced(node, weights.shape, asked)
        count += 1
    if not count:
        raise StageError(
            f"int{asked['bits']}_weights quantizes matrix products with constant weights (MatMul, "
            f"Gemm), and the model has none: {graphs.operators(model)}"
        )
    _put(model, nodes)
    onnx.save(model, str(context.out / FILE))
    return {**graphs.finish(context), "quantized": count}


def pack(
    weights: NDArray[np.float32], bits: int, group: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Weights (inputs, outputs) as MatMulNBits wants them.

    In each group the weight farthest from zero becomes the lowest integer, which is one farther
    from the middle than the highest; the last group is filled up with zeros.

    Returns:
        The integers, shape (outputs, groups, bytes), in 4 bits the earlier of two in the lower
        half of a byte; and the scales, shape (outputs, groups).
    """
    inputs, outputs = weights.shape
    groups = -(-inputs // group)
    padded = np.zeros((outputs, groups * group), np.float32)
    padded[:, :inputs] = weights.T
    parts = padded.reshape(outputs, groups, group)
    middle = 2 ** (bits - 1)
    farthest = np.take_along_axis(parts, np.abs(parts).argmax(2)[..., None], 2)
    scales = farthest / -middle
    steps = np.divide(parts, scales, out=np.zeros_like(parts), where=scales != 0)
    integers = np.clip(np.round(steps) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        integers = integers[..., ::2] | (integers[..., 1::2] << 4)
    return integers, scales[..., 0].astype(np.float32)


def _weights(node: Any, there: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """The constant factor of a matrix product, shape (inputs, outputs); None where it has none."""
    from onnx import numpy_helper

    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in there:
        return None
    weights: NDArray[np.float32] = numpy_helper.to_array(there[node.input[1]])
    if weights.ndim != 2 or weights.dtype != np.float32:
        return None
    if node.op_type == "MatMul":
        return weights
    said = {a.name: a for a in node.attribute}
    plain = all(said[word].f == 1.0 for word in ("alpha", "beta") if word in said)
    if not plain or ("transA" in said and said["transA"].i):
        return None
    return weights.T if "transB" in said and said["transB"].i else weights


def _replaced(node: Any, shape: tuple[int, ...], asked: Mapping[str, Any]) -> list[Any]:
    """The product with packed weights, and the sum with a Gemm's bias."""
    from onnx import helper

    bias = list(node.input[2:])
    product = helper.make_node(
        "MatMulNBits",
        [node.input[0], f"{node.name}/packed", f"{node.name}/scales"],
        [f"{node.name}/product"] if bias else list(node.output),
        name=node.name,
        domain="com.microsoft",
        K=shape[0],
        N=shape[1],
        bits=int(asked["bits"]),
        block_size=int(asked["group"]),
        accuracy_level=LEVELS[asked["arithmetic"]],
    )
    if not bias:
        return [product]
    names = [f"{node.name}/product", *bias]
    return [product, helper.make_node("Add", names, list(node.output), name=f"{node.name}/bias")]


def _put(model: Any, nodes: list[Any]) -> None:
    """Give the model these nodes, and drop the weights that none of them reads."""
    from onnx import helper

    graphs.keep(model.graph.node, nodes)
    read = graphs.read(model.graph) | {o.name for o in model.graph.output}
    graphs.keep(model.graph.initializer, [t for t in model.graph.initializer if t.name in read])
    if not any(o.domain == "com.microsoft" for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
