"""How large an ONNX graph is: parameters, multiply-accumulates, zeros."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.conversion import graphs

Shape = Sequence[int]
_WEIGHTS = (1, 2, 3, 10, 11, 16)
"""TensorProto's FLOAT, UINT8, INT8, FLOAT16, DOUBLE and BFLOAT16."""
_MOST_BYTES = 2**31 - 1
"""No larger message can be handed over in memory (Protocol Buffers)."""


def of(model: Any, sample: Mapping[str, NDArray[np.generic]]) -> Mapping[str, float]:
    """What ``training.size.of`` tells of a torch network, of a graph as ``graphs.plain`` makes it.

    Multiply-accumulates are those of convolutions, matrix products and recurrent layers, in the
    graph itself and not in the bodies of its loops.

    Args:
        model: An ONNX model.
        sample: The inputs of a single one, shape (1, ...), by name.

    Returns:
        ``parameters``, ``parameters_read``, ``sparsity`` and, for a model below 2 GiB, ``macs``.
    """
    from onnx import numpy_helper

    weights = {t.name: t for t in model.graph.initializer if t.data_type in _WEIGHTS}
    tables = {n.input[0] for n in model.graph.node if n.op_type == "Gather"}
    matrices = [numpy_helper.to_array(t) for t in weights.values() if len(t.dims) > 1]
    count = {name: float(math.prod(tensor.dims)) for name, tensor in weights.items()}
    total = sum(a.size for a in matrices)
    found = {
        "parameters": sum(count.values()),
        "parameters_read": sum(n for name, n in count.items() if name not in tables),
        "sparsity": sum(int((a == 0).sum()) for a in matrices) / total if total else 0.0,
    }
    return found if model.ByteSize() > _MOST_BYTES else {**found, "macs": _macs(model, sample)}


def _macs(model: Any, sample: Mapping[str, NDArray[np.generic]]) -> float:
    nodes = [node for node in model.graph.node if node.op_type in _COUNTS]
    known = _shapes(model, sample, {n for node in nodes for n in (*node.input, node.output[0])})
    total = 0.0
    for node in nodes:
        names = [*node.input[:3], node.output[0]]
        total += _COUNTS[node.op_type](node, [known.get(name, ()) for name in names])
    return total


def _shapes(
    model: Any, sample: Mapping[str, NDArray[np.generic]], names: set[str]
) -> dict[str, Shape]:
    """The shapes of these tensors where the sample is run: no inference tells all of them."""
    import onnx

    found: dict[str, Shape] = {t.name: tuple(t.dims) for t in model.graph.initializer}
    found |= {name: array.shape for name, array in sample.items()}
    asked = sorted(names - set(found) - {""})
    shown = type(model).FromString(model.SerializeToString())
    graphs.keep(shown.graph.output, [onnx.ValueInfoProto(name=name) for name in asked])
    if asked:
        outputs = graphs.session(shown, "ORT_DISABLE_ALL").run(asked, dict(sample))
        found |= {name: array.shape for name, array in zip(asked, outputs, strict=True)}
    return found


def _convolution(node: Any, shapes: list[Shape]) -> float:
    """Of each output, the products of one filter (out, in / groups, *kernel)."""
    return math.prod(shapes[-1]) * math.prod(shapes[1][1:])


def _transposed(node: Any, shapes: list[Shape]) -> float:
    """Of each input, the products of its filters (in, out / groups, *kernel)."""
    return math.prod(shapes[0]) * math.prod(shapes[1][1:])


def _product(node: Any, shapes: list[Shape]) -> float:
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(shapes[-1]) * shapes[0][-2 if turned else -1]


def _recurrent(node: Any, shapes: list[Shape]) -> float:
    """Of each step and sample, the weights of all directions on the input and on the state."""
    return math.prod(shapes[0][:2]) * (math.prod(shapes[1]) + math.prod(shapes[2]))


_COUNTS: Mapping[str, Callable[[Any, list[Shape]], float]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "Gemm": _product,
    "LSTM": _recurrent,
    "GRU": _recurrent,
}
