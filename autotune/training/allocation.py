"""How many channels every group of layers keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Room:
    """The numbers of channels that a group may have.

    Attributes:
        size: How many it has.
        step: It keeps a multiple of this, or all of them.
        least: It keeps at least so many, a multiple of ``step``, where it has more.
    """

    size: int
    step: int = 1
    least: int = 1

    def fit(self, wanted: int) -> int:
        """The most that are allowed and not more than ``wanted``, if there are such."""
        if wanted >= self.size:
            return self.size
        return min(self.size, max(self.least, wanted // self.step * self.step))


def even(rooms: Sequence[Room], ratios: Sequence[float]) -> list[int]:
    """What each group keeps where each loses its own ratio, rounded down."""
    return [
        room.fit(math.floor(room.size * (1 - ratio) + 1e-9))
        for room, ratio in zip(rooms, ratios, strict=True)
    ]


def ranked(scores: Sequence[Tensor], rooms: Sequence[Room], keep: int) -> list[int]:
    """What each group keeps where its channels are ranked with all others', rounded to the nearest.

    No group keeps less than half of the share that stays of all: a ranking alone would take some
    layers away but for one step, and the network would not recover.

    Args:
        scores: For every group, one for each of its channels, higher is better; or one for as
            many that can only go together, and then each for the same number.
        rooms: The groups' sizes and what they may become.
        keep: How many channels stay in all of them together, before rounding.
    """
    import torch

    ways = [room.size // len(s) for s, room in zip(scores, rooms, strict=True)]
    share = keep / sum(room.size for room in rooms)
    groups = torch.cat([torch.full((len(s),), i) for i, s in enumerate(scores)])
    widths = torch.tensor(ways)[groups]
    best = torch.cat([_safe(s, share / 2) for s in scores]).argsort(descending=True, stable=True)
    staying = best[widths[best].cumsum(0) <= keep]
    counts = torch.zeros(len(scores), dtype=torch.long)
    counts.index_add_(0, groups[staying], widths[staying])
    return [r.fit(c + r.step // 2) for r, c in zip(rooms, counts.tolist(), strict=True)]


def _safe(scores: Tensor, share: float) -> Tensor:
    """The scores with the best ``share`` of them infinite."""
    import torch

    found = scores.double()
    best = found.argsort(descending=True, stable=True)[: math.floor(len(found) * share)]
    return found.index_fill(0, best, torch.inf)


def third(position: float, count: int) -> int:
    """Which third (0, 1, 2) of ``count`` layers in their order lies at ``position``, from 0."""
    return min(2, int(3 * (position + 0.5) / count))
