"""Knowledge distillation: a smaller student learns the given model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from autotune.contracts import Parameter, Rejection, TechniqueContext
from autotune.errors import StageError
from autotune.space import AllOf, Condition, Is, Not, Scalar, Settings
from autotune.target import Target
from autotune.task import Blueprint, ModelSource

if TYPE_CHECKING:
    from torch import nn

summary = "train a student of another size on the teacher's soft outputs and the labels"
position = 10
sections = ("student", "distill")
needs_data = True
needs_teacher = True
libraries = ("torch",)


def parameters(model: ModelSource) -> Mapping[str, tuple[Parameter, ...]]:
    """The factory's own arguments as ``student``, and how the student is taught."""
    student = tuple(
        Parameter(name, type(value), value, help=f"the factory's argument {name}")
        for name, value in model.args.items()
    )
    return {
        "student": student,
        "distill": (
            Parameter("temperature", float, 4.0, low=0.1, help="softens the teacher's outputs"),
            Parameter("alpha", float, 0.3, low=0, high=1, help="weight of the labels"),
            Parameter("epochs", int, 10, low=1, help="passes over the training data"),
            Parameter("lr", float, 3e-3, low=0, help="peak learning rate"),
            Parameter(
                "hint",
                float,
                0.0,
                low=0,
                help="weight of matching what the teacher's last linear layer reads; 0: none",
            ),
            Parameter(
                "patience",
                int,
                0,
                low=0,
                help="ends after so many epochs without progress on held-back samples; 0: never",
            ),
        ),
    }


def when(model: ModelSource) -> Condition:
    """A student exists where one of the factory's arguments differs from the given model's."""
    return Not(AllOf(tuple(Is(f"student.{k}", (v,)) for k, v in model.args.items())))


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    """Hints are a part of the shared training loop, which the user's own training replaces."""
    if model.train is None or not settings.get("distill.hint"):
        return None
    return Rejection("never", f"distill.hint has no part in the task's own {model.train.name}()")


def trains(settings: Settings) -> bool:
    return True


def shapes(settings: Settings) -> tuple[str, ...]:
    return ("student",)


def apply(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """A fresh student, trained from its seeded initialisation (Hinton et al. 2015).

    Raises:
        StageError: It cannot stand in for the network, the training diverged, or there is nothing
            to give a hint of.
    """
    from autotune.training import loop, losses

    student, blueprint = structure(network, settings, context)
    teach = losses.distillation(
        float(settings["distill.temperature"]), float(settings["distill.alpha"])
    )
    recipe = loop.Recipe(
        int(settings["distill.epochs"]),
        float(settings["distill.lr"]),
        patience=int(settings["distill.patience"]),
    )
    weight = float(settings["distill.hint"])
    if not weight:
        loop.train(student, context, teach, recipe)
        return student, blueprint
    if context.teacher_features is None:
        raise StageError(
            "distill.hint needs a last linear layer that reads one row a sample, and the given "
            "model has none"
        )
    with losses.hint(student, context.teacher_features, weight) as (both, term):
        loop.train(both, context, teach, replace(recipe, extra=term))
    return student, blueprint


def structure(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The student as it is initialised.

    Raises:
        StageError: It cannot stand in for the network.
    """
    from autotune.training import students

    blueprint = Blueprint({**context.blueprint.args, **_arguments(settings)})
    return students.fresh(blueprint, network, context, 0.0, 1), blueprint


def _arguments(settings: Settings) -> dict[str, Scalar]:
    prefix = "student."
    return {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
