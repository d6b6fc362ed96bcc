"""Weights that were pruned to zero, and that a training must leave so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def masks(network: nn.Module) -> dict[str, Tensor]:
    """For every weight matrix or kernel that holds zeros, where it is not zero."""
    weights = {n: p.detach() for n, p in network.named_parameters() if p.dim() > 1}
    return {name: weight != 0 for name, weight in weights.items() if bool((weight == 0).any())}


def apply(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set to zero, in place, whatever ``masks`` has as zero."""
    import torch

    if not masks:
        return
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in masks:
                parameter.mul_(masks[name])
