"""Networks of the shapes of ResNet-50 and BERT-base, their weights random: latency hangs on shapes.

Stage functions write them and random inputs as artifacts, which every backend starts from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a residual; the middle ``width`` wide, the end four times.

    He et al. 2016, figure 5, with the stride in the 3x3.
    """

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            *_convolution(into, width, 1),
            nn.ReLU(),
            *_convolution(width, width, 3, stride),
            nn.ReLU(),
            *_convolution(width, out, 1),
        )
        same = into == out and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_convolution(into, out, 1, stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """The stages of ResNet-50 with ``blocks`` bottlenecks each, on 3 channels."""

    def __init__(self, width: int = 64, blocks: tuple[int, ...] = (3, 4, 6, 3)) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_convolution(3, width, 7, 2), nn.ReLU()]
        layers.append(nn.MaxPool2d(3, 2, 1))
        into = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                layers.append(Bottleneck(into, width * 2**stage, stride))
                into = 4 * width * 2**stage
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(into, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Block(nn.Module):
    """Self-attention and a feed-forward network, normalised after each (Devlin et al. 2019)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            layer(x).reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = self.first(x + self.output(y.transpose(1, 2).reshape(batch, length, width)))
        return self.second(x + self.down(nn.functional.gelu(self.up(x))))


class Bert(nn.Module):
    """The encoder of BERT-base: 12 blocks, 768 wide, 12 heads; two classes of the first token."""

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, width)
        self.places = nn.Parameter(torch.randn(1, 512, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.words(tokens) + self.places[:, : tokens.shape[1]])
        return self.head(self.blocks(x)[:, 0])


def resnet50() -> nn.Module:
    torch.manual_seed(0)
    return ResNet()


def bert_base() -> nn.Module:
    torch.manual_seed(0)
    return Bert()


def small_resnet() -> nn.Module:
    """For trying the script on cores."""
    torch.manual_seed(0)
    return ResNet(8, (1, 1))


def small_bert() -> nn.Module:
    """For trying the script on cores."""
    torch.manual_seed(0)
    return Bert(32, 1, 2)


def _convolution(into: int, out: int, size: int, stride: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(into, out, size, stride, padding=size // 2, bias=False)
    return [layer, nn.BatchNorm2d(out)]
