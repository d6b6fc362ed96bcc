"""A task that every technique has something to do on: gratings, convolutions, attention.

The test puts the tiny task beside it as ``gratings.py``.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as nnf
from gratings import DIRECTIONS, gratings
from torch import Tensor, nn

from autotune import Data


class Attention(nn.Module):
    """Self-attention whose heads can be counted, and so removed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_dim = width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length = x.shape[0], x.shape[1]
        shape = (batch, length, self.num_heads, self.head_dim)
        q, k, v = (f(x).view(shape).transpose(1, 2) for f in (self.query, self.key, self.value))
        y = nnf.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.out(y.reshape(batch, length, self.num_heads * self.head_dim))


class Net(nn.Module):
    """Two convolutions, one block of attention and feed-forward, a linear head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.norm2 = nn.LayerNorm(width)
        self.attention = Attention(width, 4)
        self.norm3 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, len(DIRECTIONS))

    def forward(self, x: Tensor) -> Tensor:
        y = nnf.relu(self.conv2(nnf.relu(self.norm1(self.conv1(x)))))
        tokens = y.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.norm2(tokens))
        tokens = tokens + self.down(nnf.gelu(self.up(self.norm3(tokens))))
        return self.head(tokens.mean(1))


class Small(nn.Module):
    """A student of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.middle = nn.Linear(16, 16)
        self.head = nn.Linear(16, len(DIRECTIONS))

    def forward(self, x: Tensor) -> Tensor:
        y = nnf.relu(self.conv2(nnf.relu(self.conv1(x)))).mean((2, 3))
        return self.head(nnf.relu(self.middle(y)))


def build_model(width: int = 32) -> nn.Module:
    return Net(width)


def small() -> nn.Module:
    return Small()


def data() -> Data:
    """256 gratings to train on, 32 to calibrate with, 96 to judge by."""
    x, y = gratings(384)
    return Data(train=(x[:256], y[:256]), calibration=x[256:288], test=(x[288:], y[288:]))


def train(path: Path) -> None:
    """Train the model as given, and write its weights."""
    torch.manual_seed(0)
    network = build_model()
    x, y = (torch.from_numpy(a) for a in data().train)
    optimizer = torch.optim.Adam(network.parameters(), 0.003)
    for _ in range(60):
        optimizer.zero_grad()
        nnf.cross_entropy(network(x), y).backward()
        optimizer.step()
    torch.save(network.state_dict(), path)
