"""How much a weight, or a group of them, matters: magnitude, Taylor, LAMP, or chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.contracts import TechniqueContext
from autotune.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, nn

CRITERIA = ("magnitude", "taylor", "lamp", "random")
BATCHES = 4
BATCH = 64


def gradients(network: nn.Module, context: TechniqueContext) -> None:
    """Leave in ``network`` the loss' gradients over a few seeded batches of training data.

    The loss is the labels' cross-entropy; without labels, the distance to the teacher's outputs.

    Raises:
        StageError: There are neither labels nor a teacher's outputs.
    """
    import torch

    from autotune.training import losses
    from autotune.training.loop import labels
    from autotune.training.network import select

    y, teacher = context.train_y, context.teacher_logits
    if y is None and teacher is None:
        raise StageError("the criterion taylor needs labels, or a teacher's outputs")
    loss = losses.distillation(1.0, 1.0)
    samples = len(next(iter(context.train_x.values())))
    order = np.random.default_rng(context.seed).permutation(samples)[: BATCHES * BATCH]
    network.eval().zero_grad(set_to_none=True)
    with torch.enable_grad():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            outputs = select(
                network(*(torch.from_numpy(x[rows]) for x in context.train_x.values())),
                context.output,
            )
            if y is not None:
                value = loss(outputs, labels(y[rows]), None)
            else:
                assert teacher is not None
                value = loss(outputs, None, torch.from_numpy(teacher[rows]))
            value.backward()  # type: ignore[no-untyped-call]
    for parameter in network.parameters():
        if parameter.grad is None:  # the loss does not hang on it
            parameter.grad = torch.zeros_like(parameter)


def of_weights(weight: Tensor, criterion: str, generator: Any) -> Tensor:
    """One score for every element of a layer's weight, of its shape, none below 0.

    magnitude ``|w|``; taylor ``|w * dL/dw|`` (Molchanov et al. 2019, first order; ``gradients``
    comes before); lamp ``w^2`` over the sum of the layer's squares that are not smaller (Lee et
    al. 2021); random: uniform.
    """
    import torch

    values = weight.detach()
    if criterion == "random":
        return torch.rand(values.shape, generator=generator)
    if criterion == "taylor":
        if weight.grad is None:
            raise ValueError("taylor needs gradients first")
        return (values * weight.grad).abs()
    if criterion == "lamp":
        squares, order = values.flatten().double().square().sort()
        rest = squares.flip(0).cumsum(0).flip(0).clamp_min(torch.finfo(torch.float64).tiny)
        return torch.empty_like(squares).scatter_(0, order, squares / rest).view(values.shape)
    return values.abs()


def of_groups(criterion: str, generator: Any, ranked: bool) -> Callable[[Any], Tensor | None]:
    """A score for every channel of one of torch-pruning's groups, summed over what depends on it.

    Args:
        criterion: magnitude (squared norm), taylor (``gradients`` comes before), lamp, or random.
        generator: Torch's, for random.
        ranked: Whether groups are compared with each other.

    Returns:
        A function of a group: shape (channels,), or None where the group has no weights. Where
        groups are ranked together a magnitude is divided by the group's mean, as layers differ in
        scale; Taylor's scores are changes of the loss and are compared as they are.
    """
    import torch
    from torch_pruning import importance

    if criterion == "random":
        return lambda group: torch.rand(len(group[0].idxs), generator=generator)
    if criterion == "taylor":
        taylor = importance.GroupTaylorImportance(
            group_reduction="sum", normalizer=None if ranked else "mean"
        )
        return lambda group: taylor(group)
    if criterion == "lamp":
        lamp = importance.LAMPImportance(p=2)
        return lambda group: lamp(group)
    magnitude = importance.GroupMagnitudeImportance(p=2)
    return lambda group: magnitude(group)


def generator(seed: int) -> Any:
    """A generator of torch's, seeded."""
    import torch

    return torch.Generator().manual_seed(seed)
