"""Losses of the shared training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from autotune.errors import StageError
from autotune.task import Loss
from autotune.training import features

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from autotune.training.validation import Rows


def distillation(temperature: float, alpha: float) -> Loss:
    """Labels weighted by ``alpha``, the teacher's softened outputs by the rest.

    ``alpha * CE(z, y) + (1 - alpha) * T^2 * KL(softmax(t / T) || softmax(z / T))``, Hinton et al.
    2015, "Distilling the Knowledge in a Neural Network", section 2. Without labels or without a
    teacher the other part stands alone.
    """
    import torch.nn.functional as nnf

    def loss(logits: Tensor, labels: Tensor | None, teacher: Tensor | None) -> Tensor:
        parts: list[Tensor] = []
        if labels is not None:
            parts.append(
                (alpha if teacher is not None else 1.0) * nnf.cross_entropy(logits, labels)
            )
        if teacher is not None:
            soft = nnf.kl_div(
                nnf.log_softmax(logits / temperature, -1),
                nnf.log_softmax(teacher / temperature, -1),
                reduction="batchmean",
                log_target=True,
            )
            parts.append((1 - alpha if labels is not None else 1.0) * temperature**2 * soft)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    return loss


@contextmanager
def hint(
    student: nn.Module, teacher: NDArray[np.floating[Any]], weight: float
) -> Iterator[tuple[nn.Module, Callable[[Rows], Tensor]]]:
    """Pull what the student's last linear layer reads towards what the teacher's reads.

    ``weight * mean((P s - t)^2)``, where s and t are the two representations with every feature
    standardised (s over the batch, t over the training data) and P is a linear map that is learned
    beside the student: the hint of Romero et al. 2015, "FitNets: Hints for Thin Deep Nets",
    section 2.2, at the layer before the last.

    Args:
        student: The network that learns; while this lasts its last linear layer is listened to.
        teacher: The teacher's representation, shape (training samples, features).
        weight: Of the term.

    Yields:
        The network to train, which is the student with P beside it, and the term for those rows of
        the training data that it was run on last.

    Raises:
        StageError: The student has no linear layer, or that reads more than one row a sample.
    """
    import torch
    from torch import nn

    layer = features.last_linear(student)
    if layer is None:
        raise StageError("distill.hint needs a linear layer at the end, and the student has none")
    wanted = standardised(torch.from_numpy(teacher))
    project = nn.Linear(cast("nn.Linear", layer).in_features, wanted.shape[1])
    heard: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        heard[:] = [inputs[0]]

    def term(rows: Rows) -> Tensor:
        read = _one_row_each(heard, len(rows))
        distance = nn.functional.mse_loss(
            project(standardised(read)), wanted[torch.from_numpy(rows)]
        )
        return weight * distance

    hook = layer.register_forward_pre_hook(note)
    try:
        yield _beside(student, project), term
    finally:
        hook.remove()


def standardised(rows: Tensor) -> Tensor:
    """Every column with mean 0 and variance 1 over the rows; a constant column becomes 0."""
    centred = rows - rows.mean(0)
    return centred / (centred.square().mean(0) + 1e-6).sqrt()


def _one_row_each(heard: list[Tensor], samples: int) -> Tensor:
    """What was heard last, taken from the list."""
    read = heard.pop() if heard else None
    if read is None or read.dim() != 2 or len(read) != samples:
        found = "was not called" if read is None else f"reads {tuple(read.shape)}"
        raise StageError(
            "distill.hint needs a last linear layer that reads one row a sample: the student's "
            f"{found} for {samples} samples"
        )
    return read


def _beside(network: nn.Module, other: nn.Module) -> nn.Module:
    """``network``, which trains the parameters of ``other`` too."""
    from torch import nn

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.other = other

        def forward(self, *inputs: Tensor) -> Any:
            return self.network(*inputs)

    return Beside()
