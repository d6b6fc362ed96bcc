"""How many channels every group of layers keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ALLOCATIONS = ("uniform", "global", "latency", "stages")
STAGES = ("early", "middle", "late")


def even(sizes: Sequence[int], ratios: Sequence[float], steps: Sequence[int]) -> list[int]:
    """What is kept of ``sizes`` where each loses its own ratio: rounded down to its step.

    At least one step stays, and a group smaller than its step stays whole.
    """
    wanted = (math.floor(s * (1 - r) + 1e-9) for s, r in zip(sizes, ratios, strict=True))
    return [
        size if count == size else min(size, max(step, count // step * step))
        for size, count, step in zip(sizes, wanted, steps, strict=True)
    ]


def ranked(
    scores: Sequence[Tensor], ways: Sequence[int], keep: int, steps: Sequence[int]
) -> list[int]:
    """What each group keeps where its channels are ranked with all others'.

    No group keeps less than half of the share that stays of all: a ranking alone would take some
    layers away but for one step, and the network would not recover.

    Args:
        scores: For every group, one for each of its channels (each of its ways, where it has more
            than one: they go together), higher is better.
        ways: How many channels go with one score, by group.
        keep: How many channels stay in all of them together, before rounding.
        steps: Each group keeps a multiple of its step (to the nearest), and at least one.
    """
    import torch

    sizes = [len(s) * way for s, way in zip(scores, ways, strict=True)]
    safe = [_safe(s, keep / sum(sizes) / 2) for s in scores]
    groups = torch.cat([torch.full((len(s),), i) for i, s in enumerate(scores)])
    widths = torch.tensor(ways)[groups]
    best = torch.cat(safe).argsort(descending=True, stable=True)
    staying = best[widths[best].cumsum(0) <= keep]
    counts = torch.zeros(len(scores), dtype=torch.long)
    counts.index_add_(0, groups[staying], widths[staying])
    return [
        size if count == size else min(size, max(step, round(count / step) * step))
        for size, count, step in zip(sizes, counts.tolist(), steps, strict=True)
    ]


def _safe(scores: Tensor, share: float) -> Tensor:
    """The scores with the best ``share`` of them infinite."""
    import torch

    found = scores.double()
    best = found.argsort(descending=True, stable=True)[: math.floor(len(found) * share)]
    return found.index_fill(0, best, torch.inf)


def third(position: float, count: int) -> int:
    """Which third (0, 1, 2) of ``count`` layers in their order lies at ``position``, from 0."""
    return min(2, int(3 * (position + 0.5) / count))
