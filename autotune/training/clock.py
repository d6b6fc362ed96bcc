"""How long each layer of a network takes, and in which order they run."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

REPEATS = 12
WARM = 3


def order(network: nn.Module, inputs: tuple[Tensor, ...]) -> dict[nn.Module, int]:
    """The convolutions and linear layers in the order of their first run, from 0."""
    return {layer: i for i, layer in enumerate(_runs(network, inputs))}


def layers_ms(network: nn.Module, inputs: tuple[Tensor, ...]) -> dict[nn.Module, float]:
    """Milliseconds of each convolution and linear layer, eagerly, on one thread, on its own input.

    The shortest of several calls: what the layer needs, without what disturbed it. A layer that
    runs more than once counts once for each run.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.disable()
    try:
        with torch.inference_mode():
            return {
                layer: sum(_shortest_ms(layer, read) for read in reads)
                for layer, reads in _runs(network, inputs).items()
            }
    finally:
        gc.enable()
        torch.set_num_threads(threads)


def _shortest_ms(layer: nn.Module, inputs: tuple[Any, ...]) -> float:
    taken = []
    for _ in range(WARM + REPEATS):
        began = time.perf_counter_ns()
        layer(*inputs)
        taken.append(time.perf_counter_ns() - began)
    return min(taken[WARM:]) / 1e6


def _runs(network: nn.Module, inputs: tuple[Tensor, ...]) -> dict[nn.Module, list[tuple[Any, ...]]]:
    """What each layer reads, for every time that it runs."""
    import torch
    from torch import nn

    found: dict[nn.Module, list[tuple[Any, ...]]] = {}

    def note(module: nn.Module, read: tuple[Any, ...]) -> None:
        found.setdefault(module, []).append(read)

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, kinds)]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found
