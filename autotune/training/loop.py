"""The one training loop: AdamW on a cosine with warm-up, seeded, resumable after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autotune.contracts import TechniqueContext
from autotune.errors import StageError
from autotune.task import Loss
from autotune.training import own, zeros
from autotune.training.network import select
from autotune.training.seeds import seed_everything

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn


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
    """

    epochs: int
    lr: float
    batch: int = 64
    weight_decay: float = 1e-2
    warmup: float = 0.1
    keep_zeros: bool = False


def train(network: nn.Module, context: TechniqueContext, loss: Loss, recipe: Recipe) -> None:
    """Train ``network`` in place on the context's data: by the user's own training if there is one.

    After each epoch the state is written to ``context.checkpoint``; a later call with the same
    checkpoint goes on from there.

    Raises:
        StageError: The loss became NaN or infinite; the message names the epoch.
        StageError: The user's training raised.
    """
    masks = zeros.masks(network) if recipe.keep_zeros else {}
    if context.train is not None:
        own.train(network, context, loss, recipe.epochs, recipe.lr)
    else:
        _train(network, context, loss, recipe, masks)
    zeros.apply(network, masks)
    network.eval()


def _train(
    network: nn.Module,
    context: TechniqueContext,
    loss: Loss,
    recipe: Recipe,
    masks: Mapping[str, torch.Tensor],
) -> None:
    import torch

    steps = math.ceil(_samples(context) / recipe.batch) * recipe.epochs
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(steps, recipe.warmup))
    start = _resume(network, optimizer, schedule, context)
    network.train()
    for epoch in range(start, recipe.epochs):
        seed_everything((context.seed + epoch) % 2**32)  # a resumed epoch draws what it would have
        for inputs, labels, teacher in _batches(context, recipe.batch, epoch):
            value = loss(select(network(*inputs), context.output), labels, teacher)
            if not torch.isfinite(value):
                raise StageError(f"training diverged: the loss is {value.item()} in epoch {epoch}")
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            zeros.apply(network, masks)
        _save(network, optimizer, schedule, context, epoch + 1)
        context.report(f"epoch {epoch + 1} of {recipe.epochs}, loss {value.item():.4g}")
    context.checkpoint.unlink(missing_ok=True)


def _samples(context: TechniqueContext) -> int:
    return len(next(iter(context.train_x.values())))


def _cosine(steps: int, warmup: float) -> Callable[[int], float]:
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return factor


if TYPE_CHECKING:
    _Batch = tuple[tuple[torch.Tensor, ...], torch.Tensor | None, torch.Tensor | None]


def _batches(context: TechniqueContext, size: int, epoch: int) -> Iterator[_Batch]:
    """Shuffled batches; the order hangs on the seed and the epoch alone, so a resume repeats it."""
    import torch

    order = np.random.default_rng((context.seed, epoch)).permutation(_samples(context))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        if len(rows) == 1 and len(order) > 1:
            continue  # batch normalisation cannot train on one sample
        inputs = tuple(torch.from_numpy(x[rows]) for x in context.train_x.values())
        targets = None if context.train_y is None else labels(context.train_y[rows])
        logits = context.teacher_logits
        yield inputs, targets, None if logits is None else torch.from_numpy(logits[rows])


def labels(y: NDArray[np.generic]) -> torch.Tensor:
    """Classes as torch's losses want them, 64 bits wide; other labels as they are."""
    import torch

    return torch.from_numpy(y.astype(np.int64) if y.dtype.kind in "iu" else y)


def _save(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    context: TechniqueContext,
    epoch: int,
) -> None:
    import torch

    state = {
        "epoch": epoch,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    fresh = context.checkpoint.with_suffix(".new")
    torch.save(state, fresh)
    fresh.replace(context.checkpoint)


def _resume(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    context: TechniqueContext,
) -> int:
    import torch

    if not context.checkpoint.exists():
        return 0
    state = torch.load(context.checkpoint, weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["epoch"])
