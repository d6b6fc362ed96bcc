"""What a training changes as it goes: network, optimizer and learning rate; and that on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.training import checkpoint
from autotune.training.validation import Best

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Course:
    """A network in training, its AdamW, and the schedule of its learning rate."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR

    def save(self, path: Path, epochs: int, best: Best) -> None:
        """Write down the state after so many epochs, the best of them included."""
        state = {
            "epoch": epochs,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "best": {"loss": best.loss, "stale": best.stale, "state": dict(best.state)},
        }
        checkpoint.save(path, state)

    def resume(self, path: Path) -> tuple[int, Best]:
        """Put back what ``save`` wrote, if anything: how many epochs are done, the best of them."""
        state = checkpoint.load(path)
        if state is None:
            return 0, Best()
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return int(state["epoch"]), Best(**state["best"])


def course(
    network: nn.Module, *, lr: float, weight_decay: float, steps: int, warmup: float
) -> Course:
    """The start of a training of so many steps.

    The learning rate rises to ``lr`` over the share ``warmup`` of them, then falls on a cosine.
    """
    import torch

    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(steps, warmup))
    return Course(network, optimizer, schedule)


def _cosine(steps: int, warmup: float) -> Callable[[int], float]:
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return factor
