"""The ways to cut a network: channels, heads, single weights, 2 of every 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from autotune.contracts import TechniqueContext
from autotune.training import channels, dependencies, heads, importance, sparsity
from autotune.training.gradual import Knife

if TYPE_CHECKING:
    from torch import Tensor, nn

TIMED = 16
"""How many samples the layers are timed on where the allocation is by latency."""


def of_channels(
    network: nn.Module, context: TechniqueContext, wish: channels.Wish, criterion: str
) -> Knife:
    """Cuts whole channels; ``network`` is as it is before the first cut."""
    inputs = _samples(context, TIMED if wish.allocation == "latency" else 1)
    initial = channels.sizes(network, inputs)

    def cut(network: nn.Module, progress: float) -> Any:
        _prepare(network, context, criterion)
        score = importance.of_groups(criterion, importance.generator(context.seed), wish.allocation)
        return channels.cut(network, inputs, wish, progress, initial, score)

    return Knife(cut, lambda network, removed: channels.again(network, inputs, removed))


def of_heads(
    network: nn.Module, context: TechniqueContext, attribute: str, ratio: float, criterion: str
) -> Knife:
    """Cuts whole attention heads, of every layer the same share, and never its last one."""
    inputs = _samples(context, 2)
    found = heads.named(network, dependencies.trace(network, inputs), attribute)
    initial = {a.name: int(getattr(a.module, attribute)) for a in found}

    def cut(network: nn.Module, progress: float) -> dict[str, list[int]]:
        _prepare(network, context, criterion)
        generator = importance.generator(context.seed)
        gone = {}
        for attention in heads.find(network, dependencies.trace(network, inputs), attribute):
            count = int(getattr(attention.module, attribute))
            keep = max(1, round(initial[attention.name] * (1 - ratio * progress)))
            gone[attention.name] = heads.least(attention, count, count - keep, criterion, generator)
        heads.remove(network, inputs, attribute, gone)
        return gone

    return Knife(cut, lambda network, gone: heads.remove(network, inputs, attribute, gone))


def of_weights(context: TechniqueContext, ratio: float, criterion: str) -> Knife:
    """Cuts single weights to zero."""

    def cut(network: nn.Module, progress: float) -> None:
        _prepare(network, context, criterion)
        sparsity.unstructured(network, ratio * progress, criterion, context.seed)

    return Knife(cut, _nothing)


def of_fours(tell: Callable[[str], None]) -> Knife:
    """Cuts 2 of every 4 weights to zero, and tells which layers do not fit."""

    def cut(network: nn.Module, progress: float) -> None:
        skipped = sparsity.two_of_four(network)
        if skipped:
            named = ", ".join(skipped)
            tell(f"2:4 left these as they are, their inputs are no multiple of 4: {named}")

    return Knife(cut, _nothing)


def _nothing(network: nn.Module, removed: None) -> None:
    """Zeros are part of the weights: nothing is to be done again."""


def _prepare(network: nn.Module, context: TechniqueContext, criterion: str) -> None:
    if criterion == "taylor":
        importance.gradients(network, context)


def _samples(context: TechniqueContext, count: int) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(x[:count]) for x in context.train_x.values())
