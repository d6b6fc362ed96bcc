"""The one training loop: AdamW on a cosine with warm-up, seeded, resumable after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autotune.contracts import TechniqueContext
from autotune.errors import StageError
from autotune.task import Loss
from autotune.training import finite, own, validation, zeros
from autotune.training.course import Course, course
from autotune.training.network import select
from autotune.training.pace import Pace
from autotune.training.seeds import seed_everything

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from autotune.training.validation import Rows

Extra = Callable[["Rows"], "torch.Tensor"]
"""(rows of the training data that the network has just been run on) -> a term of the loss."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        epochs: Passes over the training data, at most.
        lr: Peak learning rate.
        batch: Samples a step.
        weight_decay: AdamW's.
        warmup: Share of the steps in which the learning rate rises.
        keep_zeros: Whether weights that were pruned to zero stay so.
        patience: A tenth of the training data is held back, and after so many epochs in which its
            loss did not fall the training ends; the weights are those of the best epoch. 0 holds
            nothing back and trains to the end.
        extra: A term that is added to the loss. What it needs of the network it records by a hook,
            and what it trains besides is part of the network that is handed in.
    """

    epochs: int
    lr: float
    batch: int = 64
    weight_decay: float = 1e-2
    warmup: float = 0.1
    keep_zeros: bool = False
    patience: int = 0
    extra: Extra | None = None


def train(network: nn.Module, context: TechniqueContext, loss: Loss, recipe: Recipe) -> None:
    """Train ``network`` in place on the context's data: by the user's own training if there is one.

    The network may be a wrapper with a ``train()`` of its own. After each epoch the state is
    written to ``context.checkpoint``; a later call with the same checkpoint goes on from there, so
    every training of a stage needs a file of its own. The user's own training decides by itself
    when to end, and does not see ``recipe.extra``.

    Raises:
        StageError: The loss or a weight became NaN or infinite; the message names the epoch.
        TaskError: The user's training raised, or left what cannot be used.
    """
    masks = zeros.masks(network) if recipe.keep_zeros else {}
    with zeros.held(network, masks):
        if context.train is not None:
            own.train(network, context, loss, recipe.epochs, recipe.lr)
        else:
            _train(network, context, loss, recipe)
    network.eval()


def _train(network: nn.Module, context: TechniqueContext, loss: Loss, recipe: Recipe) -> None:
    rows, held = _rows(context, recipe)
    objective = _objective(network, context, loss, recipe.extra)
    steps = math.ceil(len(rows) / recipe.batch) * recipe.epochs
    under_way = course(
        network, lr=recipe.lr, weight_decay=recipe.weight_decay, steps=steps, warmup=recipe.warmup
    )
    start, best = under_way.resume(context.checkpoint)
    pace = Pace(context.report, recipe.epochs, start)
    for epoch in range(start, recipe.epochs):
        if recipe.patience and best.stale >= recipe.patience:
            break
        seed_everything((context.seed + epoch) % 2**32)  # a resumed epoch draws what it would have
        order = np.random.default_rng((context.seed, epoch)).permutation(len(rows))
        batches = _batches(rows[order], recipe.batch)
        told = f"loss {_epoch(under_way, objective, batches, epoch, recipe, pace):.4g}"
        if recipe.patience:
            value = validation.mean_loss(network, objective, held, recipe.batch)
            _check(value, epoch, recipe)
            best = best.after(value, network)
            told = f"{told}, {value:.4g} on held-back samples"
        under_way.save(context.checkpoint, epoch + 1, best)
        pace.tell(epoch + 1, told)
    if best.state:
        network.load_state_dict(best.state)
    context.checkpoint.unlink(missing_ok=True)


def _epoch(
    under_way: Course,
    objective: Callable[[Rows], torch.Tensor],
    batches: list[Rows],
    epoch: int,
    recipe: Recipe,
    pace: Pace,
) -> float:
    """One pass over the data; its mean loss."""
    import torch

    network = under_way.network
    network.train()
    total = 0.0
    for number, rows in enumerate(batches, start=1):
        value = objective(rows)
        total += _check(value.item(), epoch, recipe)
        under_way.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        under_way.optimizer.step()
        under_way.schedule.step()
        pace.within(epoch + number / len(batches), total / number)
    if name := finite.broken(network):
        raise StageError(f"training diverged: {name} is not finite {_at(epoch, recipe)}")
    return total / len(batches)


def _check(value: float, epoch: int, recipe: Recipe) -> float:
    if not math.isfinite(value):
        raise StageError(f"training diverged: the loss is {value} {_at(epoch, recipe)}")
    return value


def _at(epoch: int, recipe: Recipe) -> str:
    return f"in epoch {epoch + 1} of {recipe.epochs} (lr {recipe.lr:g})"


def _rows(context: TechniqueContext, recipe: Recipe) -> tuple[Rows, Rows]:
    """The rows to train on, and those held back."""
    samples = len(next(iter(context.train_x.values())))
    if recipe.patience:
        return validation.split(samples, context.train_y, context.seed)
    return np.arange(samples), np.arange(0)


def _objective(
    network: nn.Module, context: TechniqueContext, loss: Loss, extra: Extra | None
) -> Callable[[Rows], torch.Tensor]:
    """The loss of the network, as it is when called, on these rows of the training data."""
    import torch

    def objective(rows: Rows) -> torch.Tensor:
        inputs = (torch.from_numpy(x[rows]) for x in context.train_x.values())
        targets = None if context.train_y is None else labels(context.train_y[rows])
        logits = context.teacher_logits
        teacher = None if logits is None else torch.from_numpy(logits[rows])
        value = loss(select(network(*inputs), context.output), targets, teacher)
        return value if extra is None else value + extra(rows)

    return objective


def _batches(order: Rows, size: int) -> list[Rows]:
    """The rows in batches; batch normalisation cannot train on one sample, so none is of one."""
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [rows for rows in batches if len(rows) > 1 or len(order) == 1]


def labels(y: NDArray[np.generic]) -> torch.Tensor:
    """Classes as torch's losses want them, 64 bits wide; other labels as they are."""
    import torch

    return torch.from_numpy(y.astype(np.int64) if y.dtype.kind in "iu" else y)
