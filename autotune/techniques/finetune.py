"""Fine-tuning: a pruned network recovers, taught by the given model and the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from autotune.contracts import Parameter, Rejection, TechniqueContext
from autotune.space import Condition, Is, Settings
from autotune.target import Target
from autotune.task import Blueprint, ModelSource
from autotune.training import teaching

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
            teaching.LR,
            *teaching.TEACHER,
            teaching.PATIENCE,
        )
    }


def when(model: ModelSource) -> Condition:
    """Exists where something was pruned."""
    return Is("prune.structure", ("channel", "head", "unstructured", "2:4"))


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    return teaching.reject("finetune", settings, model)


def trains(settings: Settings) -> bool:
    return True


def shapes(settings: Settings) -> tuple[str, ...]:
    return ()


def measures(settings: Settings) -> bool:
    return False


def apply(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The same network, trained on in place."""
    from autotune.training import loop

    teach = teaching.loss("finetune", settings)
    recipe = teaching.recipe("finetune", settings, keep_zeros=context.blueprint.sparse)
    loop.train(network, context, teach, recipe)
    return network, context.blueprint


def structure(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The network as it came."""
    return network, context.blueprint
