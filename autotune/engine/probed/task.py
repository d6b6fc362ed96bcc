"""A network of every heavy kind that is small enough to be converted in no time, with its data."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from autotune import Data

CALIBRATION = 32
TEST = 32


class Tiny(nn.Module):
    """Convolutions, one of them under a sum, and more linear layers: (n, 4, 8, 8) -> (n, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.hidden = nn.Sequential(*(layer for _ in range(4) for layer in _hidden()))
        self.head = nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        y = torch.relu(self.second(y) + y)
        found: torch.Tensor = self.head(self.hidden(y.mean((2, 3))))
        return found


def _hidden() -> tuple[nn.Module, nn.Module]:
    return nn.Linear(32, 32), nn.ReLU()


def build() -> nn.Module:
    torch.manual_seed(0)
    return Tiny()


def data() -> Data:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(CALIBRATION + TEST, 4, 8, 8)).astype(np.float32)
    return Data(calibration=x[:CALIBRATION], test=x[CALIBRATION:])
