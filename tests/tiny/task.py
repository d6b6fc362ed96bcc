"""A task that trains in about a second: gratings of three directions, 8x8, and a small CNN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from autotune import Data

DIRECTIONS = ((1, 0), (0, 1), (1, 1))


class Net(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.head = nn.Linear(width, len(DIRECTIONS))

    def forward(self, x: Tensor) -> Tensor:
        y = nnf.relu(self.conv2(nnf.relu(self.norm(self.conv1(x)))))
        return self.head(y.mean((2, 3)))


def build_model(width: int = 16) -> nn.Module:
    return Net(width)


def data() -> Data:
    """192 gratings to train on, 32 to calibrate with, 96 to judge by."""
    x, y = gratings(320)
    return Data(train=(x[:192], y[:192]), calibration=x[192:224], test=(x[224:], y[224:]))


def train(path: Path) -> None:
    """Train the model as given, and write its weights."""
    torch.manual_seed(0)
    network = build_model()
    x, y = (torch.from_numpy(a) for a in data().train)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nnf.cross_entropy(network(x), y).backward()
        optimizer.step()
    torch.save(network.state_dict(), path)


def gratings(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy waves of any phase, shape (count, 1, 8, 8), and which of the directions they run in."""
    rng = np.random.default_rng(0)
    y = rng.integers(len(DIRECTIONS), size=count)
    down, right = np.array(DIRECTIONS)[y].T[:, :, None, None]
    rows, columns = np.mgrid[:8, :8]
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    waves = np.sin(1.3 * (down * rows + right * columns) + phase)
    x = waves + rng.normal(0, 0.4, (count, 8, 8))
    return x[:, None].astype(np.float32), y.astype(np.int64)
