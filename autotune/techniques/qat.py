"""Quantization-aware training: the network learns to live with the rounding of INT8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from autotune.contracts import QUANTIZED, Parameter, Rejection, TechniqueContext
from autotune.space import AllOf, Condition, Is, Not, Settings
from autotune.target import Target
from autotune.task import Blueprint, ModelSource
from autotune.training import teaching

if TYPE_CHECKING:
    from torch import nn

summary = "train on under simulated INT8, before the backend quantizes"
position = 40
sections = ("qat",)
needs_data = True
needs_teacher = True
libraries = ("torch",)


def parameters(model: ModelSource) -> Mapping[str, tuple[Parameter, ...]]:
    """How long and how fast, and how much it listens to the teacher."""
    return {
        "qat": (
            Parameter(
                "epochs",
                int,
                0,
                low=0,
                help="passes over the training data under simulated INT8; 0: none",
                when=QUANTIZED,
            ),
            teaching.LR,
            *teaching.TEACHER,
            teaching.PATIENCE,
        )
    }


def when(model: ModelSource) -> Condition:
    """Exists where INT8 is asked for, and epochs of it."""
    return AllOf((QUANTIZED, Not(Is("qat.epochs", (0,)))))


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    return teaching.reject("qat", settings, model)


def trains(settings: Settings) -> bool:
    return True


def shapes(settings: Settings) -> tuple[str, ...]:
    return ()


def measures(settings: Settings) -> bool:
    return False


def apply(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The same network in floating point, trained to give its best once it is rounded.

    The backend's own quantization rounds it, as it would any other: the kernels are the same.

    Raises:
        StageError: The network computes nothing that can be simulated.
    """
    from autotune.training import fakequant, loop

    simulated = fakequant.simulated(network, context.train_x, context.seed)
    if simulated.skipped:
        context.report(f"not simulated in INT8: {', '.join(simulated.skipped)}")
    teach = teaching.loss("qat", settings)
    recipe = teaching.recipe("qat", settings, keep_zeros=context.blueprint.sparse)
    loop.train(simulated, context, teach, recipe)
    return network, context.blueprint


def structure(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The network as it came."""
    return network, context.blueprint
