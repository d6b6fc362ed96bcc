"""Networks whose weights are no longer numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def broken(network: nn.Module) -> str:
    """The first parameter that holds NaN or infinity, or buffer that holds NaN; "" if none does.

    A buffer may be infinite on purpose, as the mask of an attention is.
    """
    import torch

    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return name
    buffers = network.named_buffers()
    return next((name for name, buffer in buffers if bool(torch.isnan(buffer).any())), "")
