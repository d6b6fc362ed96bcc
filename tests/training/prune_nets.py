"""Small networks to prune, and their data: a task file as a user writes one."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import nn

from autotune.contracts import TechniqueContext
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks


class Residual(nn.Module):
    """Convolutions around shortcuts, one of them grouped, one depthwise; 8x8 in, 3 classes out."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.grouped = nn.Conv2d(width, width, 3, padding=1, groups=4)
        self.mix = nn.Conv2d(width, width, 1)
        self.deep = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.each = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.wide = nn.Conv2d(2 * width, 2 * width, 1)
        self.head = nn.Linear(2 * width, 3)

    def forward(self, x):
        y = torch.relu(self.norm(self.stem(x)))
        y = torch.relu(self.mix(torch.relu(self.grouped(y))) + y)
        y = torch.relu(self.wide(self.each(torch.relu(self.deep(y)))))
        return self.head(y.mean((2, 3)))


class Attention(nn.Module):
    """Self-attention over ``num_heads`` heads; query, key and value apart, or from one layer."""

    def __init__(self, width, heads, fused):
        super().__init__()
        self.num_heads, self.size, self.fused = heads, width // heads, fused
        if fused:
            self.all_three = nn.Linear(width, 3 * width)
        else:
            self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
            self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x):
        if self.fused == "chunks":
            three = self.all_three(x).chunk(3, -1)
        elif self.fused == "places":
            three = self.all_three(x).reshape(*x.shape[:2], 3, -1).unbind(2)
        else:
            three = self.query(x), self.key(x), self.value(x)
        parts = (t.reshape(*x.shape[:2], self.num_heads, self.size).transpose(1, 2) for t in three)
        y = nnf.scaled_dot_product_attention(*parts)
        return self.output(y.transpose(1, 2).reshape(*x.shape[:2], -1))


class Reader(nn.Module):
    """Tokens of shape (samples, 8, 8) as rows of numbers; two blocks; 3 classes out."""

    def __init__(self, width, heads, fused):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.places = nn.Parameter(0.1 * torch.randn(1, 8, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.attentions = nn.ModuleList(Attention(width, heads, fused) for _ in range(2))
        self.ups = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.downs = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(2))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        y = self.embed(x.flatten(1, 2)) + self.places
        for i in range(2):
            y = y + self.attentions[i](self.norms[2 * i](y))
            y = y + self.downs[i](nnf.gelu(self.ups[i](self.norms[2 * i + 1](y))))
        return self.head(y.mean(1))


def residual(width=16):
    torch.manual_seed(1)
    return Residual(width)


def reader(width=16, heads=4, fused=""):
    torch.manual_seed(2)
    return Reader(width, heads, fused)


def model(factory="residual", **args):
    """The model of one of the factories above."""
    return ModelSource(CodeRef(__file__, factory), {"width": 16, **args})


def images(samples=48):
    return np.random.default_rng(5).normal(size=(samples, 1, 8, 8)).astype(np.float32)


def context(folder, of=None, **changes):
    """What a technique gets for one of the networks above."""
    of = of or model()
    rng = np.random.default_rng(6)
    plain = TechniqueContext(
        build=lambda blueprint: networks.build(of, blueprint),
        blueprint=Blueprint(of.args),
        train_x={"input": images()},
        train_y=rng.integers(3, size=48),
        teacher_logits=rng.normal(size=(48, 3)).astype(np.float32),
        teacher_features=None,
        seed=0,
        checkpoint=folder / "training.pt",
    )
    return dataclasses.replace(plain, **changes)


def outputs(network):
    with torch.no_grad():
        return network.eval()(torch.from_numpy(images(7)))


def shapes(network):
    return {name: tuple(t.shape) for name, t in network.state_dict().items()}
