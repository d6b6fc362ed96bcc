"""What an engine is made of, read from the lines in which the engine inspector describes it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "Einsum")
"""ONNX operators in which a network's time goes."""
_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), (?P<rest>.*)$")
_SIDES = re.compile(r"Inputs: (?P<inputs>.*?)(?:, Constants: .*?)?, Outputs: ")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")
_TYPES = re.compile(r"(?:Datatype|Format/Datatype): ([^,}\]]+)")
_WORDS = (
    ("bf16", ("bf16", "bfloat16")),
    ("fp16", ("fp16", "half", "float16")),
    ("fp8", ("fp8", "e4m3")),
    ("int8", ("int8",)),
    ("fp32", ("fp32", "float", "tf32")),
)
"""Our word of each type, and how the inspector spells it, narrower names before those in them."""
_GLUE = ("kgen", "shape_call", "Reformat", "NoOp", "Constant", "Cast")
"""Kinds of layers that move, round or add, but do not multiply matrices."""


@dataclass(frozen=True)
class Layer:
    """One kernel of an engine.

    Attributes:
        name, kind: In the library's words.
        precision: Of the first tensor that it reads; "" where it reads none, or of another kind.
        nodes: The names of the ONNX nodes that were fused into it.
    """

    name: str
    kind: str
    precision: str
    nodes: tuple[str, ...]


def read(text: str) -> tuple[Layer, ...]:
    """The layers in the inspector's one-line-a-layer format; lines of other kinds are skipped."""
    found = (_LINE.match(line.strip()) for line in text.splitlines())
    return tuple(_layer(match) for match in found if match)


def kernels(layers: Sequence[Layer], heavy: Collection[str]) -> dict[str, int]:
    """How many of the ``heavy`` ONNX nodes run in each precision.

    A node's precision is that of the kernel that multiplies; rounding beside it is not its own.
    """
    found: Counter[str] = Counter(fp32=0)
    for node in heavy:
        among = [layer for layer in layers if node in layer.nodes]
        own = [layer for layer in among if layer.kind not in _GLUE] or among
        words = [layer.precision for layer in own if layer.precision]
        if words:
            found[words[0]] += 1
    return dict(found)


def fusions(layers: Sequence[Layer]) -> dict[str, int]:
    """How many kernels there are, and how many ONNX nodes they hold."""
    return {
        "engine_layers": len(layers),
        "onnx_nodes": len({node for layer in layers for node in layer.nodes}),
        "fused_layers": sum(len(layer.nodes) > 1 for layer in layers),
    }


def record(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """As JSON values, which ``from_record`` reads."""
    return [{**vars(layer), "nodes": list(layer.nodes)} for layer in layers]


def from_record(values: Sequence[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """What ``record`` told."""
    return tuple(Layer(**{**value, "nodes": tuple(value["nodes"])}) for value in values)


def _layer(match: re.Match[str]) -> Layer:
    sides = _SIDES.search(match["rest"])
    types = _TYPES.findall(sides["inputs"]) if sides else []
    nodes = dict.fromkeys(_NODE.findall(match["rest"]))
    return Layer(match["name"], match["kind"], _word(types[0]) if types else "", tuple(nodes))


def _word(spelled: str) -> str:
    low = spelled.lower()
    return next((word for word, forms in _WORDS if any(form in low for form in forms)), "")
