"""Fine-tuning: a pruned network recovers, taught by the given model and the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from autotune.contracts import Parameter, Rejection, TechniqueContext
from autotune.space import Condition, Is, Settings
from autotune.target import Target
from autotune.task import Blueprint, ModelSource

if TYPE_CHECKING:
    from torch import nn

summary = "train a pruned network on, from where pruning left it"
position = 30
sections = ("finetune",)
needs_data = True
needs_teacher = True
libraries = ("torch",)


def parameters(model: ModelSource) -> Mapping[str, tuple[Parameter, ...]]:
    """How long and how fast, and how much it listens to the teacher."""
    return {
        "finetune": (
            Parameter("epochs", int, 4, low=1, help="passes over the training data"),
            Parameter("lr", float, 3e-3, low=0, help="peak learning rate"),
            Parameter("temperature", float, 4.0, low=0.1, help="softens the teacher's outputs"),
            Parameter("alpha", float, 0.3, low=0, high=1, help="weight of the labels"),
            Parameter(
                "patience",
                int,
                0,
                low=0,
                help="ends after so many epochs without progress on held-back samples; 0: never",
            ),
        )
    }


def when(model: ModelSource) -> Condition:
    """Exists where something was pruned."""
    return Is("prune.structure", ("channel", "head", "unstructured", "2:4"))


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    return None


def trains(settings: Settings) -> bool:
    return True


def shapes(settings: Settings) -> tuple[str, ...]:
    return ()


def apply(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The same network, trained on in place."""
    from autotune.training import loop, losses

    teach = losses.distillation(
        float(settings["finetune.temperature"]), float(settings["finetune.alpha"])
    )
    recipe = loop.Recipe(
        int(settings["finetune.epochs"]),
        float(settings["finetune.lr"]),
        keep_zeros=True,
        patience=int(settings["finetune.patience"]),
    )
    loop.train(network, context, teach, recipe)
    return network, context.blueprint


def structure(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The network as it came."""
    return network, context.blueprint
