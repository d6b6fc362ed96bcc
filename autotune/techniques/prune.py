"""Pruning: whole channels removed, with everything that depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from autotune.contracts import Parameter, Rejection, TechniqueContext
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

    from autotune.training import channels

    example = tuple(torch.from_numpy(x[:1]) for x in context.train_x.values())
    channels.remove(
        network, example, float(settings["prune.ratio"]), int(settings["prune.round_to"])
    )
    return network, context.blueprint


def structure(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The same: how many channels go hangs on the ratio, only which ones on the weights."""
    return apply(network, settings, context)
