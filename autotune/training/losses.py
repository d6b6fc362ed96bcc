"""Losses of the shared training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotune.task import Loss

if TYPE_CHECKING:
    from torch import Tensor


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
