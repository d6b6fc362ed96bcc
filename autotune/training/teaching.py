"""What the techniques that train have in common: their words, and what these ask of the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotune.contracts import Parameter, Rejection
from autotune.space import Settings
from autotune.task import Loss, ModelSource

if TYPE_CHECKING:
    from autotune.training.loop import Recipe

LR = Parameter("lr", float, 3e-3, low=0, help="peak learning rate")
TEACHER = (
    Parameter("temperature", float, 4.0, low=0.1, help="softens the teacher's outputs"),
    Parameter("alpha", float, 0.3, low=0, high=1, help="weight of the labels"),
)
PATIENCE = Parameter(
    "patience",
    int,
    0,
    low=0,
    help="ends after so many epochs without progress on held-back samples; 0: never",
)


def loss(section: str, settings: Settings) -> Loss:
    """What is minimised by the words of ``section``: the teacher's outputs and the labels."""
    from autotune.training import losses

    return losses.distillation(
        float(settings[f"{section}.temperature"]), float(settings[f"{section}.alpha"])
    )


def recipe(section: str, settings: Settings, *, keep_zeros: bool) -> Recipe:
    """How long and how fast, by the words of ``section``."""
    from autotune.training import loop

    return loop.Recipe(
        int(settings[f"{section}.epochs"]),
        float(settings[f"{section}.lr"]),
        keep_zeros=keep_zeros,
        patience=int(settings[f"{section}.patience"]),
    )


def reject(section: str, settings: Settings, model: ModelSource) -> Rejection | None:
    """``patience`` is a part of the shared loop, which the user's own training replaces."""
    if model.train is None or not settings.get(f"{section}.patience"):
        return None
    return Rejection(
        "never", f"the task's own {model.train.name}() ends when it will: no {section}.patience"
    )
