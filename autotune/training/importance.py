"""How much a weight, or a group of them, matters: magnitude, Taylor, LAMP, or chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.contracts import TechniqueContext
from autotune.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, nn

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


def of_groups(
    criterion: str, generator: Any, allocation: str = "uniform"
) -> Callable[[Any], Tensor | None]:
    """A score for every channel of one of torch-pruning's groups.

    Args:
        criterion: magnitude (squared norm), taylor (``gradients`` comes before), lamp, or random.
        generator: Torch's, for random.
        allocation: What the scores are for. Where groups are ranked together (global, latency) the
            scale matters: Taylor's score is the change of the loss, summed over the layers that
            make or read the channel; the others are relative to the group's, and for latency
            times the number of those layers, as its milliseconds are a sum over them too.

    Returns:
        A function of a group: shape (channels,), or None where the group has no weights.
    """
    import torch
    from torch_pruning import importance

    if criterion == "taylor":
        return importance.GroupTaylorImportance(group_reduction="sum", normalizer=None)  # type: ignore[no-any-return]
    if criterion == "random":

        def relative(group: Any) -> Tensor | None:
            return torch.rand(len(group[0].idxs), generator=generator)

    elif criterion == "lamp":
        relative = importance.LAMPImportance(p=2)
    else:
        relative = importance.GroupMagnitudeImportance(p=2)
    return _summed(relative) if allocation == "latency" else relative


def _summed(relative: Callable[[Any], Tensor | None]) -> Callable[[Any], Tensor | None]:
    """The same score, times the number of convolutions and linear layers in the group."""
    from torch import nn

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

    def score(group: Any) -> Tensor | None:
        found = relative(group)
        layers = sum(isinstance(item.dep.target.module, kinds) for item in group)
        return None if found is None else found * layers

    return score


def generator(seed: int) -> Any:
    """A generator of torch's, seeded."""
    import torch

    return torch.Generator().manual_seed(seed)
