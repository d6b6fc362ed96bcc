"""Students: fresh networks that are to learn what the given model does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autotune.errors import StageError
from autotune.training import channels
from autotune.training.network import select
from autotune.training.seeds import seed_everything

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autotune.contracts import TechniqueContext
    from autotune.task import Blueprint


def fresh(
    blueprint: Blueprint, given: nn.Module, context: TechniqueContext, shrink: float, round_to: int
) -> nn.Module:
    """A student as it is initialised from the context's seed, in evaluation mode.

    Args:
        blueprint: Of the network that it is, or is cut from.
        given: The model that it is to stand in for.
        context: Its data tells the inputs.
        shrink: The share of every layer's channels that is removed before it learns anything.
        round_to: Channels are kept in multiples of this.

    Raises:
        TaskError: Its factory raised, or made no network.
        StageError: It cannot run the training data, its prediction has another shape than the given
            model's, or it cannot be shrunk.
    """
    seed_everything(context.seed)
    student = context.build(blueprint).eval()
    inputs = _inputs(context)
    _fits(student, given, inputs, context.output)
    if shrink:
        try:
            channels.remove(student, inputs, shrink, round_to)
        except StageError as error:
            raise StageError(f"no student of student.shrink {shrink:g}: {error}") from error
        seed_everything(context.seed)
        initialise(student)
    return student


def inherit(student: nn.Module, given: nn.Module) -> None:
    """Let the student begin with the given model's weights, by name, where the shapes agree.

    So a student of fewer layers begins with the first ones of its teacher (Sanh et al. 2019).

    Raises:
        StageError: No weight of the student has a namesake of its shape.
    """
    theirs = given.state_dict()
    own = student.state_dict()
    shared = {
        n: theirs[n] for n, value in own.items() if n in theirs and theirs[n].shape == value.shape
    }
    if not shared.keys() & dict(student.named_parameters()).keys():
        raise StageError(
            "distill.start is 'given', and no weight of the student has the name and the shape of "
            "one of the given model's"
        )
    student.load_state_dict({**own, **shared})


def initialise(network: nn.Module) -> None:
    """Give every layer that has ``reset_parameters`` its first weights, for its size as it is."""
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()


def _inputs(context: TechniqueContext) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(np.array(x[:2])) for x in context.train_x.values())


def _fits(
    student: nn.Module, given: nn.Module, inputs: tuple[Tensor, ...], output: int | str
) -> None:
    import torch

    with torch.no_grad():
        wanted = tuple(select(given(*inputs), output).shape)
        try:
            made = tuple(select(student(*inputs), output).shape)
        except Exception as error:  # the edge to the user's network
            words = " ".join(str(error).split())[:300]
            raise StageError(
                f"the student cannot run the training data: {type(error).__name__}: {words}"
            ) from error
    if made != wanted:
        raise StageError(
            f"the student's output has shape {made} for {len(inputs[0])} samples, the given "
            f"model's {wanted}: they must be equal"
        )
