"""Whole channels removed from a network, with everything that depends on them (torch-pruning)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotune.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, nn


def remove(network: nn.Module, inputs: tuple[Tensor, ...], ratio: float, round_to: int) -> None:
    """Remove, in place, the smallest channels (group L2 norm) of every layer.

    Args:
        network: Any network that torch-pruning can trace; it is left in evaluation mode.
        inputs: One small batch, in the order of the network's arguments.
        ratio: The share of every layer's channels that goes.
        round_to: Channels are kept in multiples of this.

    Raises:
        StageError: torch-pruning cannot trace the network, nothing was removed, or the network's
            output has another shape than before.
    """
    import torch
    import torch_pruning

    network.eval()
    before = parameters(network)
    with torch.no_grad():
        outputs = network(*inputs)
    last = output_layers(network, inputs)
    try:
        pruner = torch_pruning.pruner.MagnitudePruner(
            network,
            inputs if len(inputs) > 1 else inputs[0],
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            round_to=round_to,
            ignored_layers=last,
            num_heads=_heads(network),
        )
        pruner.step()
        after = network(*inputs)
    except Exception as error:
        raise StageError(f"torch-pruning cannot prune this network: {error}") from error
    if shapes(after) != shapes(outputs):
        raise StageError(f"pruning changed the output from {shapes(outputs)} to {shapes(after)}")
    if parameters(network) == before:
        raise StageError("pruning removed nothing: raise the ratio or lower round_to")


def output_layers(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[nn.Module]:
    """The layers whose output is (a part of) the network's own: they must keep their width."""
    import torch
    from torch import nn

    made: dict[int, nn.Module] = {}

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            made[output.data_ptr()] = module

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)]
    try:
        with torch.no_grad():
            output = network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    tensors = [t for t in _flat(output) if isinstance(t, torch.Tensor)]
    return [made[t.data_ptr()] for t in tensors if t.data_ptr() in made]


def shapes(output: object) -> list[tuple[int, ...]]:
    """The shape of every tensor of a network's output."""
    return [tuple(getattr(t, "shape", ())) for t in _flat(output)]


def parameters(network: nn.Module) -> int:
    """How many parameters the network has."""
    return sum(p.numel() for p in network.parameters())


def _heads(network: nn.Module) -> dict[nn.Module, int]:
    """The heads of every attention layer, so that its width stays a multiple of them."""
    from torch import nn

    kinds = nn.MultiheadAttention
    return {m: m.num_heads for m in network.modules() if isinstance(m, kinds)}


def _flat(output: object) -> list[object]:
    if isinstance(output, dict):
        return [t for part in output.values() for t in _flat(part)]
    if isinstance(output, (list, tuple)):
        return [t for part in output for t in _flat(part)]
    return [output]
