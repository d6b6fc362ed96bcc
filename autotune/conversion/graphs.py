"""What every quantization of an ONNX model needs: names for its nodes, batches of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotune.conversion import arrays

CALIBRATION_BATCH = 32


def named(model: Any) -> Any:
    """The ONNX ``model`` itself, each unnamed node now named by its first output."""
    for node in model.graph.node:
        if not node.name:
            node.name = next(o for o in node.output if o)
    return model


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
