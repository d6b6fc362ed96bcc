"""Weights that were pruned to zero, and that a training must leave so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def masks(network: nn.Module) -> dict[str, Tensor]:
    """For every weight matrix or kernel that holds zeros, where it is not zero.

    To be asked of a network that was pruned to zeros: others have some by chance or design.
    """
    weights = {n: p.detach() for n, p in network.named_parameters() if p.dim() > 1}
    return {name: weight != 0 for name, weight in weights.items() if bool((weight == 0).any())}


@contextmanager
def held(network: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Zeros at every run of ``network`` and in the end, whoever trains it meanwhile, and how."""
    hook = network.register_forward_pre_hook(partial(_before, masks))
    try:
        yield
    finally:
        hook.remove()
        _apply(network, masks)


def _before(masks: Mapping[str, Tensor], network: nn.Module, _: object) -> None:
    _apply(network, masks)


def _apply(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set to zero, in place, whatever ``masks`` has as zero."""
    for name, parameter in network.named_parameters():
        if name in masks:
            # through .data: a backward pass that is still to come must not take it for a change
            parameter.data.mul_(masks[name])
