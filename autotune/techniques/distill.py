"""Knowledge distillation: a smaller student learns the given model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.contracts import Parameter, Rejection, TechniqueContext
from autotune.errors import SpecError, StageError
from autotune.space import AllOf, Condition, Is, Not, Settings
from autotune.target import Target
from autotune.task import Blueprint, ModelSource
from autotune.training import teaching, usercode

if TYPE_CHECKING:
    from torch import nn

summary = "train a smaller or another network on the teacher's soft outputs and the labels"
position = 10
sections = ("student", "distill")
needs_data = True
needs_teacher = True
libraries = ("torch", "torch-pruning")


GIVEN = 0.0
"""The share of channels removed that leaves a network as its factory built it."""


def parameters(model: ModelSource) -> Mapping[str, tuple[Parameter, ...]]:
    """Which network the student is, as ``student``, and how it is taught."""
    return {
        "student": _student(model),
        "distill": (
            Parameter(
                "start",
                str,
                "fresh",
                choices=("fresh", "given"),
                help="what it learns from: first weights of its own, or the given model's, by name "
                "where shapes agree",
            ),
            *teaching.TEACHER,
            Parameter("epochs", int, 10, low=1, help="passes over the training data"),
            teaching.LR,
            Parameter(
                "hint",
                float,
                0.0,
                low=0,
                help="weight of matching what the teacher's last linear layer reads; 0: none",
            ),
            teaching.PATIENCE,
        ),
    }


def _student(model: ModelSource) -> tuple[Parameter, ...]:
    """The factory, the given one's own arguments, and how much of its network is left."""
    own = _own(model)
    return (
        Parameter(
            "factory",
            str,
            _name(model),
            choices=_factories(model),
            help="the task file's function that builds it; all but the given one get no arguments",
        ),
        *(
            Parameter(name, type(value), value, help=f"the factory's argument {name}", when=own)
            for name, value in model.args.items()
        ),
        Parameter(
            "shrink",
            float,
            GIVEN,
            low=0,
            high=0.95,
            help="share of every layer's channels removed before it learns anything",
            when=own,
        ),
        Parameter(
            "round_to",
            int,
            8,
            low=1,
            help="channels are kept in multiples of this",
            when=AllOf((own, Not(Is("student.shrink", (GIVEN,))))),
        ),
    )


def _own(model: ModelSource) -> Condition:
    """Where the student is built by the given model's factory."""
    return Is("student.factory", (_name(model),))


def _name(model: ModelSource) -> str:
    return model.factory.name if model.factory else ""


def _factories(model: ModelSource) -> tuple[str, ...]:
    """What the task file offers as a factory; empty, which is any word, where there is no file."""
    found = usercode.factories(Path(model.factory.file)) if model.factory else ()
    return tuple(dict.fromkeys((_name(model), *found))) if found else ()


def when(model: ModelSource) -> Condition:
    """A student exists where anything about it differs from the given model.

    Raises:
        SpecError: An argument of the factory has a name that means something else here.
    """
    for word in _RESERVED:
        if word in model.args:
            raise SpecError(
                f"the factory's argument '{word}' has the name of a word of 'student'",
                place=f"model.args.{word}",
                remedy=f"rename the argument: {', '.join(_RESERVED)} are taken",
            )
    args = tuple(Is(f"student.{name}", (value,)) for name, value in model.args.items())
    return Not(AllOf((_own(model), *args, Is("student.shrink", (GIVEN,)))))


_RESERVED = ("factory", "shrink", "round_to")
"""Words of the section ``student`` that are not arguments of the factory."""


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    """Hints too are a part of the shared training loop, which the user's own training replaces."""
    if model.train is None or not settings.get("distill.hint"):
        return teaching.reject("distill", settings, model)
    return Rejection("never", f"distill.hint has no part in the task's own {model.train.name}()")


def trains(settings: Settings) -> bool:
    return True


def shapes(settings: Settings) -> tuple[str, ...]:
    return ("student",)


def measures(settings: Settings) -> bool:
    return False


def apply(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """A student, trained from its seeded initialisation or the given weights (Hinton et al. 2015).

    Raises:
        StageError: It cannot stand in for the network, has nothing to begin with, the training
            diverged, or there is nothing to give a hint of.
    """
    from autotune.training import loop, losses, students

    student, blueprint = structure(network, settings, context)
    if settings["distill.start"] == "given":
        students.inherit(student, network)
    teach = teaching.loss("distill", settings)
    recipe = teaching.recipe("distill", settings, keep_zeros=False)
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

    prefix = "student."
    student = {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
    args = {k: v for k, v in student.items() if k not in _RESERVED}
    blueprint = Blueprint(args, str(student["factory"]))
    shrink, round_to = float(student.get("shrink", GIVEN)), int(student.get("round_to", 1))
    return students.fresh(blueprint, network, context, shrink, round_to), blueprint
