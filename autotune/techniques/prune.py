"""Pruning: whole channels removed, with everything that depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from autotune.contracts import Parameter, Rejection, TechniqueContext
from autotune.errors import StageError
from autotune.space import Condition, Is, Settings
from autotune.target import Target
from autotune.task import Blueprint, ModelSource

if TYPE_CHECKING:
    from torch import nn

summary = "remove the least important channels, dependency-aware (torch-pruning)"
position = 20
sections = ("prune",)
needs_data = True
needs_teacher = False
libraries = ("torch", "torch-pruning")


def parameters(model: ModelSource) -> Mapping[str, tuple[Parameter, ...]]:
    """What is removed, and how much of it."""
    return {
        "prune": (
            Parameter(
                "structure", str, "none", choices=("none", "channel"), help="what is removed"
            ),
            Parameter("ratio", float, 0.5, low=0, high=0.95, help="share of the channels removed"),
            Parameter("round_to", int, 8, low=1, help="channels are kept in multiples of this"),
        )
    }


def when(model: ModelSource) -> Condition:
    """Exists where a structure is chosen."""
    return Is("prune.structure", ("channel",))


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    return None


def trains(settings: Settings) -> bool:
    return False


def shapes(settings: Settings) -> tuple[str, ...]:
    return ("prune",)


def apply(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The network with its smallest channels (group L2 norm) gone; its outputs keep their shape.

    Raises:
        StageError: torch-pruning cannot trace the network, or found nothing to remove.
    """
    import torch
    import torch_pruning

    network.eval()
    example = tuple(torch.from_numpy(x[:1]) for x in context.train_x.values())
    before = _parameters(network)
    with torch.no_grad():
        outputs = network(*example)
    last = _output_layers(network, example)
    try:
        pruner = torch_pruning.pruner.MagnitudePruner(
            network,
            example if len(example) > 1 else example[0],
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=float(settings["prune.ratio"]),
            round_to=int(settings["prune.round_to"]),
            ignored_layers=last,
            num_heads=_heads(network),
        )
        pruner.step()
        after = network(*example)
    except Exception as error:
        raise StageError(f"torch-pruning cannot prune this network: {error}") from error
    if _shape(after) != _shape(outputs):
        raise StageError(f"pruning changed the output from {_shape(outputs)} to {_shape(after)}")
    if _parameters(network) == before:
        raise StageError("pruning removed nothing: raise prune.ratio or lower prune.round_to")
    return network, context.blueprint


def structure(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The same: how many channels go hangs on the ratio, only which ones on the weights."""
    return apply(network, settings, context)


def _heads(network: nn.Module) -> dict[nn.Module, int]:
    """The heads of every attention layer, so that its width stays a multiple of them."""
    from torch import nn

    kinds = nn.MultiheadAttention
    return {m: m.num_heads for m in network.modules() if isinstance(m, kinds)}


def _output_layers(network: nn.Module, example: tuple[object, ...]) -> list[nn.Module]:
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
            output = network(*example)
    finally:
        for hook in hooks:
            hook.remove()
    tensors = [t for t in _flat(output) if isinstance(t, torch.Tensor)]
    return [made[t.data_ptr()] for t in tensors if t.data_ptr() in made]


def _flat(output: object) -> list[object]:
    if isinstance(output, dict):
        return [t for part in output.values() for t in _flat(part)]
    if isinstance(output, (list, tuple)):
        return [t for part in output for t in _flat(part)]
    return [output]


def _shape(output: object) -> list[tuple[int, ...]]:
    return [tuple(getattr(t, "shape", ())) for t in _flat(output)]


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
