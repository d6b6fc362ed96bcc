"""ONNX Runtime's profile of some requests, which it writes as a trace, read as a ``Profile``."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.measure.spans import Span, middle, outermost, within
from autotune.profile import Operation, Profile

_REQUEST = "model_run"
_NODE = "_kernel_time"
_WORDS = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "double": "fp64",
    "uint8": "int8",
}
"""Element types that the knob ``precision`` has a word for and ONNX Runtime another one."""
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Cast")


def profile(trace: Path, walls: Sequence[float], kernel: Callable[[str], str | None]) -> Profile:
    """The mean over the middle half of the requests.

    ONNX Runtime tells whole microseconds: each node's time is up to one too short. A node that
    holds a graph of its own (``If``, ``Loop``) is told as one.

    Args:
        trace: What ``end_profiling`` wrote.
        walls: The wall times in milliseconds of the last requests in it.
        kernel: The precision of an operator's kernel; None where that of its input tells it.
    """
    events = json.loads(trace.read_text(encoding="utf-8"))
    spans = [
        Span(event["name"], event["ts"], event["ts"] + event["dur"], event["args"])
        for event in events
        if event["name"] == _REQUEST or event["name"].endswith(_NODE)
    ]
    nodes = list(outermost(spans, lambda span: span.word != _REQUEST))
    requests = [span for span in spans if span.word == _REQUEST][-len(walls) :]
    chosen = middle(walls)
    parts = within(nodes, requests)
    found: defaultdict[tuple[str, str], list[Span]] = defaultdict(list)
    for span in (span for i in chosen for span in parts[i]):
        found[span.word, str(span.about["node_index"])].append(span)
    rows = tuple(_row(spans, len(chosen), kernel) for spans in found.values())
    return Profile(rows, sum(walls[i] for i in chosen) / len(chosen), len(chosen))


def _row(spans: Sequence[Span], requests: int, kernel: Callable[[str], str | None]) -> Operation:
    about = spans[0].about
    operator = str(about["op_name"])
    return Operation(
        operator,
        spans[0].word.removesuffix(_NODE),
        kernel(operator) or _precision(operator, about),
        sum(span.length for span in spans) / requests / 1e3,
        len(spans) / requests,
    )


def _precision(operator: str, about: Mapping[str, Any]) -> str:
    """The element type of the first input; of a conversion, that of its output too."""
    source, made = (_first(about.get(f"{side}_type_shape")) for side in ("input", "output"))
    return f"{source} to {made}" if operator in _CONVERSIONS and source and made else source


def _first(values: Sequence[Mapping[str, object]] | None) -> str:
    """The word for the element type of the first of a node's values; "" where it has none."""
    kind = next(iter(values[0]), "") if values else ""
    return _WORDS.get(kind, kind)
