"""What a network's last linear layer reads: the representation that its prediction is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn


def last_linear(network: nn.Module) -> nn.Module | None:
    """The linear layer that was registered last; None where there is none."""
    from torch import nn

    found = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return found[-1] if found else None


@contextmanager
def recorded(
    network: nn.Module,
) -> Iterator[Callable[[int], NDArray[np.floating[Any]] | None]]:
    """Record what the last linear layer reads; the callable yields it, shape (samples, features).

    It yields None where there is no such layer, or what it read is not one row a sample.
    """
    layer = last_linear(network)
    parts: list[NDArray[np.floating[Any]]] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        parts.append(inputs[0].detach().float().numpy())

    def found(samples: int) -> NDArray[np.floating[Any]] | None:
        whole = np.concatenate(parts) if parts and parts[0].ndim == 2 else None
        return whole if whole is not None and len(whole) == samples else None

    hook = layer.register_forward_pre_hook(note) if layer is not None else None
    try:
        yield found
    finally:
        if hook is not None:
            hook.remove()
