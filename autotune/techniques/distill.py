"""Knowledge distillation: a smaller student learns the given model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from autotune.contracts import Parameter, Rejection, TechniqueContext
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
        ),
    }


def when(model: ModelSource) -> Condition:
    """A student exists where one of the factory's arguments differs from the given model's."""
    return Not(AllOf(tuple(Is(f"student.{k}", (v,)) for k, v in model.args.items())))


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    return None


def trains(settings: Settings) -> bool:
    return True


def shapes(settings: Settings) -> tuple[str, ...]:
    return ("student",)


def apply(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """A fresh student, trained from its seeded initialisation (Hinton et al. 2015)."""
    from autotune.training import loop, losses

    student, blueprint = structure(network, settings, context)
    teach = losses.distillation(
        float(settings["distill.temperature"]), float(settings["distill.alpha"])
    )
    recipe = loop.Recipe(int(settings["distill.epochs"]), float(settings["distill.lr"]))
    loop.train(student, context, teach, recipe)
    return student, blueprint


def structure(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The student as it is initialised."""
    from autotune.training.seeds import seed_everything

    blueprint = Blueprint({**context.blueprint.args, **_arguments(settings)})
    seed_everything(context.seed)
    return context.build(blueprint), blueprint


def _arguments(settings: Settings) -> dict[str, Scalar]:
    prefix = "student."
    return {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
