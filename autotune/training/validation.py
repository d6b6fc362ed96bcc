"""A share of the training data held back from a training, to tell when it no longer learns."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.errors import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    Rows = NDArray[np.intp]

SHARE = 0.1
LEAST = 32
"""So many samples are held back of a set whose tenth is fewer, but never more than half of it."""


@dataclass(frozen=True)
class Best:
    """The best epoch so far by the loss on the held-back samples.

    Attributes:
        loss: That loss.
        stale: Epochs since then.
        state: The network's ``state_dict`` after it; empty before the first epoch.
    """

    loss: float = math.inf
    stale: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)

    def after(self, loss: float, network: nn.Module) -> Best:
        """The best with one more epoch seen, which left ``network`` at ``loss``."""
        if loss < self.loss:
            return Best(loss, 0, copy.deepcopy(network.state_dict()))
        return Best(self.loss, self.stale + 1, self.state)


def split(samples: int, labels: NDArray[np.generic] | None, seed: int) -> tuple[Rows, Rows]:
    """The rows to train on and those held back, each in ascending order.

    Where the labels are class numbers every class gives the same share of its rows, up to one.

    Raises:
        StageError: There is one sample only.
    """
    if samples < 2:
        raise StageError("patience holds training samples back, and there is only one")
    count = min(max(round(SHARE * samples), LEAST), samples // 2)
    order = np.random.default_rng((seed, samples)).permutation(samples)
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub":
        order = order[np.argsort(_places(labels[order]), kind="stable")]
    return np.sort(order[count:]), np.sort(order[:count])


def mean_loss(
    network: nn.Module, objective: Callable[[Rows], Tensor], rows: Rows, batch: int
) -> float:
    """The mean of ``objective`` over ``rows``, the network in evaluation mode and left so."""
    import torch

    network.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            total += objective(some).item() * len(some)
    return total / len(rows)


def _places(labels: NDArray[np.generic]) -> NDArray[np.floating[Any]]:
    """For each row how far down its class it stands, in (0, 1): sorting by it mixes the classes."""
    places = np.empty(len(labels))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        places[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    return places
