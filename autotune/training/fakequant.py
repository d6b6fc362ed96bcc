"""A network that computes as INT8 kernels will, with gradients: for quantization-aware training.

What is simulated is what post-training quantization makes of the exported network. The factors of
products are rounded to 8 bits: activations on one grid a tensor (unsigned, asymmetric), weights on
one grid an output channel (signed, around zero). So are both sides of a residual addition, except
in a network with attention: there sums stay wide. The gradient passes through the rounding as if
it were not there, and is zero outside the range (straight-through estimator, Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from autotune.errors import StageError
from autotune.training.products import Products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.generic]]

BATCHES, BATCH = 8, 64
"""How many training batches, of how many samples, first tell the activations' ranges."""
FOLLOW = 0.05
"""The share by which a range moves towards each training batch's own."""
SMALLEST = 1e-8
"""The least step of a grid: of an all-zero channel it would be none."""


class Simulated(nn.Module):
    """``network`` as INT8 kernels will compute it; only the network itself has weights.

    Ranges follow the activations while training, and stand still otherwise. Runtimes fold a batch
    normalisation into the weights before it, which scales a channel and its grid alike: the weights
    as they are before folding are rounded to the same steps, whatever the statistics. Anything
    asked of it that it does not have is asked of the network.

    Attributes:
        network: The float network, whose weights are trained.
        ranges: Least and largest value of every activation that is rounded, in the order of its
            first use, shape (activations, 2).
        sums: Whether residual additions are rounded.
        skipped: What is not simulated, in words.
    """

    ranges: Tensor

    def __init__(
        self, network: nn.Module, ranges: Tensor, *, sums: bool, skipped: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("ranges", ranges)
        self.sums = sums
        self.skipped = skipped

    def forward(self, *inputs: Tensor) -> Any:
        rounding = _Rounding(self.ranges, self.training)
        with Products(rounding, self.sums):
            outputs = self.network(*inputs)
        rounding.finish()
        return outputs

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)


def simulated(network: nn.Module, x: Arrays, seed: int) -> Simulated:
    """``network`` wrapped, its ranges estimated from some of the samples ``x``.

    Args:
        network: The float network; it is not copied.
        x: Samples by input name, each of shape (samples, ...).
        seed: For the choice of samples.

    Raises:
        StageError: It computes no product that can be simulated, or an activation is not finite.
    """
    network.eval()
    batches = list(_batches(x, seed))
    first, attends = _watched(network, batches[0], sums=True)
    if not first.weights:
        kinds = sorted({type(m).__name__ for m in network.modules() if not list(m.children())})
        raise StageError(
            "quantization-aware training finds no convolution or matrix product in this network "
            f"that it can simulate; its layers: {', '.join(kinds) or type(network).__name__}"
        )
    found = [_watched(network, inputs, sums=not attends)[0] for inputs in batches]
    if any(len(one.ranges) != len(found[0].ranges) for one in found):
        raise StageError(_CHANGING)
    ranges = torch.stack([torch.stack(one.ranges) for one in found]).mean(0)
    if not bool(torch.isfinite(ranges).all()):
        raise StageError("the network's activations are not finite on the training data")
    return Simulated(network, ranges, sums=not attends, skipped=_skipped(network, first))


_CHANGING = "quantization-aware training needs a network that computes the same steps in every call"


def _watched(
    network: nn.Module, inputs: tuple[Tensor, ...], *, sums: bool
) -> tuple[_Observed, bool]:
    """What was seen in one forward pass, and whether there was attention in it."""
    seen = _Observed()
    with torch.no_grad(), Products(seen, sums) as products:
        network(*inputs)
    return seen, products.attends


class _Observed:
    """Watches a forward pass, and changes nothing in it."""

    def __init__(self) -> None:
        self.ranges: list[Tensor] = []
        self.weights: set[int] = set()
        self.names: list[str] = []

    def activation(self, tensor: Tensor) -> Tensor:
        self.ranges.append(_range(tensor))
        return tensor

    def weight(self, tensor: Tensor, axis: int) -> Tensor:
        self.weights.add(tensor.untyped_storage().data_ptr())
        return tensor

    def unknown(self, name: str) -> None:
        if name not in self.names:
            self.names.append(name)


class _Rounding:
    """Rounds every operand to its grid; follows the activations' ranges where ``moving``."""

    def __init__(self, ranges: Tensor, moving: bool) -> None:
        self._ranges, self._moving = ranges, moving
        self._next = 0

    def activation(self, tensor: Tensor) -> Tensor:
        place, self._next = self._next, self._next + 1
        if place >= len(self._ranges):
            raise StageError(_CHANGING)
        with torch.no_grad():
            if self._moving:
                self._ranges[place].lerp_(_range(tensor), FOLLOW)
            scale, zero = grid(*self._ranges[place])
        return torch.fake_quantize_per_tensor_affine(tensor, scale, zero, 0, 255)

    def weight(self, tensor: Tensor, axis: int) -> Tensor:
        return rounded_weight(tensor, axis)

    def unknown(self, name: str) -> None:
        """It was told when the ranges were estimated."""

    def finish(self) -> None:
        if self._next != len(self._ranges):
            raise StageError(_CHANGING)


def _range(tensor: Tensor) -> Tensor:
    """The least and the largest value, shape (2,)."""
    return torch.stack(torch.aminmax(tensor))


def grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point (int32) of the 8-bit unsigned grid over a range widened to hold zero."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / 255).clamp(min=SMALLEST)
    return scale, torch.round(-low / scale).clamp(0, 255).to(torch.int32)


def rounded_weight(weight: Tensor, axis: int) -> Tensor:
    """Each channel along ``axis`` rounded to -127..127 steps of its largest magnitude / 127."""
    with torch.no_grad():
        others = [d for d in range(weight.dim()) if d != axis]
        largest = weight.abs().amax(others) if others else weight.abs()
        scale = (largest / 127).clamp(min=SMALLEST)
        zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -127, 127)


def _batches(x: Arrays, seed: int) -> Iterator[tuple[Tensor, ...]]:
    count = len(next(iter(x.values())))
    order = np.random.default_rng((seed, 8)).permutation(count)[: BATCHES * BATCH]
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        yield tuple(torch.from_numpy(a[rows]) for a in x.values())


def _skipped(network: nn.Module, seen: _Observed) -> tuple[str, ...]:
    """Functions that are not simulated, and torch's layers whose weights were seen nowhere."""
    layers = [
        f"{type(module).__name__} {name}"
        for name, module in network.named_modules()
        if type(module).__module__.startswith("torch.nn.modules")
        and not isinstance(module, nn.Embedding)
        and any(
            p.dim() > 1 and p.untyped_storage().data_ptr() not in seen.weights
            for p in module.parameters(recurse=False)
        )
    ]
    return (*seen.names, *layers)
