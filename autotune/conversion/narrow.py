"""An ONNX model whose floating point has 16 bits, for runtimes that compute in the types it says.

TensorRT (strongly typed) and ONNX Runtime on GPUs do. Inputs and outputs stay 32 bits wide, with a
cast beside each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autotune.conversion import graphs

WORDS = ("fp16", "bf16")
_ENDS = {"fp16": 65504.0, "bf16": 3.3895e38}
"""The largest finite number of each."""
_STAYS = {"Resize": (1, 2), "Upsample": (1,)}
"""Positions of inputs that are floats of 32 bits whatever the others are: scales and regions."""


def floats(model: Any, word: str) -> Any:
    """``model`` (as ``graphs.load`` reads it) with every float in ``word``; changed in place.

    Numbers beyond the type's range (masks of minus infinity) become its largest.
    """
    import onnx

    graph = model.graph
    wide = onnx.TensorProto.FLOAT
    kept = {place.name for place in [*graph.input, *graph.output] if _type(place) == wide}
    given = [place.name for place in graph.input if place.name in kept]
    made = [place.name for place in graph.output if place.name in kept]
    _narrow_graph(graph, word)
    names = {name: f"{name}_{word}" for name in [*given, *made]}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    casts = [_cast(name, names[name], _code(word)) for name in given]
    backs = [_cast(names[name], name, wide) for name in made]
    graphs.keep(graph.node, [*casts, *graph.node, *backs])
    return model


def _narrow_graph(graph: Any, word: str) -> None:
    """Tensors and casts of a graph, and of the branches and loops inside it."""
    _copy_what_stays(graph)
    stays = {name for node in graph.node for name in _staying(node)}
    for tensor in graph.initializer:
        if tensor.name not in stays:
            _narrow_tensor(tensor, word)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == 1:
                attribute.i = _code(word)
            if attribute.HasField("t"):
                _narrow_tensor(attribute.t, word)
            if attribute.HasField("g"):
                _narrow_graph(attribute.g, word)
            for inner in attribute.graphs:
                _narrow_graph(inner, word)
    del graph.value_info[:]


def _copy_what_stays(graph: Any) -> None:
    """Give each input that stays wide a tensor of its own, that nobody else reads."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for place in _STAYS.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] in tensors:
                copy = graph.initializer.add()
                copy.CopyFrom(tensors[node.input[place]])
                copy.name = f"{node.input[place]}_of_{node.name}"
                node.input[place] = copy.name


def _staying(node: Any) -> list[str]:
    places = _STAYS.get(node.op_type, ())
    return [node.input[place] for place in places if place < len(node.input)]


def _narrow_tensor(tensor: Any, word: str) -> None:
    import ml_dtypes
    import onnx
    from onnx import numpy_helper

    if tensor.data_type != onnx.TensorProto.FLOAT:
        return
    kind = np.float16 if word == "fp16" else ml_dtypes.bfloat16
    values = np.clip(numpy_helper.to_array(tensor), -_ENDS[word], _ENDS[word])
    tensor.CopyFrom(numpy_helper.from_array(values.astype(kind), tensor.name))


def _cast(source: str, target: str, code: int) -> Any:
    from onnx import helper

    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=code)


def _code(word: str) -> int:
    import onnx

    proto = onnx.TensorProto
    return int(proto.FLOAT16 if word == "fp16" else proto.BFLOAT16)


def _type(place: Any) -> int:
    return int(place.type.tensor_type.elem_type)
