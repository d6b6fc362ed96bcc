"""What the functions on ONNX models share: names, sample batches, and how an artifact is made."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.contracts import StageContext
from autotune.conversion import arrays
from autotune.conversion.export import FILE

CALIBRATION_BATCH = 32


def load(folder: Path) -> Any:
    """The ONNX model of an artifact, every node named: an unnamed one by its first output."""
    import onnx

    model = onnx.load(str(folder / FILE))
    for node in model.graph.node:
        if not node.name:
            node.name = next(o for o in node.output if o)
    return model


def finish(context: StageContext) -> dict[str, Any]:
    """Complete the artifact of a stage that has written its ONNX file; facts about it."""
    shutil.copy(context.inputs[0] / "source.json", context.out / "source.json")
    return {"bytes": (context.out / FILE).stat().st_size}


def constants(model: Any) -> dict[str, Any]:
    """The constant tensors of ``model`` by name; the exporter calls equal ones by two names."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def operators(model: Any) -> str:
    """How many nodes there are of each kind, most frequent first, in words."""
    kinds = Counter(node.op_type for node in model.graph.node)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


class Batches:
    """ONNX Runtime's reader protocol over arrays: one dict a call, then None.

    All batches have one size, because its histograms cannot be merged over two.
    """

    def __init__(self, x: Mapping[str, arrays.Array]) -> None:
        count = len(next(iter(x.values())))
        size = max(s for s in range(1, CALIBRATION_BATCH + 1) if count % s == 0)
        starts = range(0, count, size)
        self._left = iter([{n: a[s : s + size] for n, a in x.items()} for s in starts])

    def get_next(self) -> dict[str, arrays.Array] | None:
        return next(self._left, None)
