"""Pruning in rounds with a short training after each but the last; a kill costs one epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.contracts import TechniqueContext
from autotune.task import Loss
from autotune.training import checkpoint, loop

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Knife:
    """How a network is cut.

    Attributes:
        cut: Removes, in place, what is due at a progress of 0 to 1, and says what that was, in
            plain values.
        again: Removes from a network of the same shapes what ``cut`` said; the weights follow.
    """

    cut: Callable[[nn.Module, float], Any]
    again: Callable[[nn.Module, Any], None]


@dataclass(frozen=True)
class Rounds:
    """How often to cut, how much each time, and how to train after all but the last.

    Attributes:
        count: 1 is one shot, with no training at all.
        schedule: cubic removes most at first, linear as much every time.
        recipe: Of the training between two rounds.
        loss: It minimises this.
    """

    count: int
    schedule: str
    recipe: loop.Recipe
    loss: Loss


def progress(done: int, count: int, schedule: str) -> float:
    """How much is due after ``done`` of ``count`` rounds.

    cubic: ``1 - (1 - t)^3``, Zhu and Gupta 2017, "To prune, or not to prune"; linear: ``t``.
    """
    t = done / count
    return 1 - (1 - t) ** 3 if schedule == "cubic" else t


def prune(network: nn.Module, context: TechniqueContext, knife: Knife, rounds: Rounds) -> int:
    """Cut ``network`` in place, in rounds; one that was killed goes on where it was.

    Before every training the cuts so far and the weights are written beside
    ``context.checkpoint``, and the training has a checkpoint of its own there.

    Returns:
        How many weights that were not zero went in all the cuts.
    """
    path = context.checkpoint.with_name(f"{context.checkpoint.stem}-rounds.pt")
    found = checkpoint.load(path) if rounds.count > 1 else None
    cuts: list[Any] = found["cuts"] if found else []
    removed: int = found["removed"] if found else 0
    for done in cuts:
        knife.again(network, done)
    if found:
        network.load_state_dict(found["state"])
    for number in range(len(cuts), rounds.count):
        if number > 0:
            _train(network, context, rounds, number)
        due = progress(number + 1, rounds.count, rounds.schedule)
        before = _weights(network)
        cuts.append(knife.cut(network, due))
        removed += before - _weights(network)
        if rounds.count > 1:
            state = network.state_dict()
            checkpoint.save(path, {"cuts": cuts, "removed": removed, "state": state})
    path.unlink(missing_ok=True)
    return removed


def _weights(network: nn.Module) -> int:
    """How many weights are not zero."""
    return sum(int(p.count_nonzero()) for p in network.parameters())


def _train(network: nn.Module, context: TechniqueContext, rounds: Rounds, number: int) -> None:
    stem = context.checkpoint.stem
    told = context.report
    own = dataclasses.replace(
        context,
        checkpoint=context.checkpoint.with_name(f"{stem}-round-{number}.pt"),
        report=lambda line: told(f"after round {number} of {rounds.count}: {line}"),
    )
    loop.train(network, own, rounds.loss, rounds.recipe)
