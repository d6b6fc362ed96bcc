"""The user's own training, in the place of the shared loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotune.errors import StageError
from autotune.task import Lesson, Loss

if TYPE_CHECKING:
    from torch import nn

    from autotune.contracts import TechniqueContext


def train(
    network: nn.Module, context: TechniqueContext, loss: Loss, epochs: int, lr: float
) -> None:
    """Call ``train(network, lesson)``; what it returns, if anything, gives the network its state.

    Raises:
        StageError: It raised, or returned something that does not fit the network.
    """
    if context.train is None:
        raise ValueError("there is no training of the user's own")
    lesson = Lesson(
        x=context.train_x,
        y=context.train_y,
        teacher_logits=context.teacher_logits,
        loss=loss,
        epochs=epochs,
        lr=lr,
        seed=context.seed,
        checkpoint=context.checkpoint,
        report=context.report,
    )
    try:
        returned = context.train(network, lesson)
        if returned is not None and returned is not network:
            network.load_state_dict(returned.state_dict())
    except Exception as error:  # the edge to the user's code
        words = " ".join(str(error).split())[:300]
        raise StageError(f"the user's train() raised {type(error).__name__}: {words}") from error
    _finite(network)


def _finite(network: nn.Module) -> None:
    import torch

    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise StageError(f"the user's train() left NaN or infinite values in {name}")
