"""Pairs of QuantizeLinear and DequantizeLinear as TensorRT reads them: signed, around zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from autotune.conversion import graphs
from autotune.errors import StageError

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_MIDDLE = 128
"""The zero of unsigned numbers that stand for signed ones around zero."""


def signed(model: Any) -> Any:
    """``model`` of ``conversion.qdq`` with symmetric scales, in the form of TensorRT; in place.

    The unsigned steps around 128 become the same steps around 0. Biases, which are integers of 32
    bits there, become the floating-point numbers that they stand for: TensorRT adds those.

    Raises:
        StageError: An activation's zero is not in the middle.
    """
    _biases(model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in _PAIR and len(node.input) > 2:
            _centre(tensors[node.input[2]], node.name)
    return model


def _centre(tensor: Any, node: str) -> None:
    """An unsigned zero of 128 as a signed one of 0; a signed one must be 0 as it is.

    Numbers of 8 bits in floating point are signed, around zero.
    """
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT8E4M3FN:
        return

    zeros = numpy_helper.to_array(tensor)
    middle = _MIDDLE if zeros.dtype == np.uint8 else 0
    if (zeros != middle).any():
        raise StageError(
            f"{node} rounds around {int(zeros.flat[0])}, TensorRT only around zero: "
            "let ptq.scheme be symmetric"
        )
    centred = np.zeros(zeros.shape, dtype=np.int8)
    tensor.CopyFrom(numpy_helper.from_array(centred, tensor.name))


def _biases(model: Any) -> None:
    """The DequantizeLinear nodes of 32-bit integers computed, and gone."""
    from onnx import numpy_helper

    tensors = {t.name: t for t in model.graph.initializer}
    left = []
    for node in model.graph.node:
        stored = tensors.get(node.input[0]) if node.op_type == _PAIR[1] else None
        if stored is None or numpy_helper.to_array(stored).dtype != np.int32:
            left.append(node)
            continue
        steps = numpy_helper.to_array(stored).astype(np.float64)
        values = steps * numpy_helper.to_array(tensors[node.input[1]])
        made = numpy_helper.from_array(values.astype(np.float32), node.output[0])
        model.graph.initializer.append(made)
    graphs.keep(model.graph.node, left)
    read = graphs.read(model.graph)
    graphs.keep(model.graph.initializer, [t for t in model.graph.initializer if t.name in read])
