"""Single weights pruned to exact zeros: the least important of a network, or 2 of every 4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotune.errors import StageError
from autotune.training import importance

if TYPE_CHECKING:
    from torch import Tensor, nn


def unstructured(network: nn.Module, ratio: float, criterion: str, seed: int) -> None:
    """Zero, in place, the share ``ratio`` of all the weights of ``layers``.

    They are ranked over the whole network (Han et al. 2015 for magnitude); what is zero goes
    first. Biases, normalisations and embeddings stay as they are.

    Raises:
        StageError: The network has no such layer.
    """
    import torch

    weights = layers(network)
    generator = importance.generator(seed)
    with torch.no_grad():
        scores = [importance.of_weights(w, criterion, generator) for w in weights.values()]
        ranked = torch.cat(
            [
                s.double().masked_fill(w == 0, -1.0).flatten()
                for s, w in zip(scores, weights.values(), strict=True)
            ]
        )
        gone = round(len(ranked) * ratio)
        keep = torch.ones_like(ranked, dtype=torch.bool)
        keep[ranked.argsort(stable=True)[:gone]] = False
        parts = torch.split(keep, [w.numel() for w in weights.values()])
        for weight, part in zip(weights.values(), parts, strict=True):
            weight.masked_fill_(~part.view(weight.shape), 0.0)


def two_of_four(network: nn.Module) -> list[str]:
    """Zero, in place, the 2 smallest of every 4 consecutive inputs of each output (2:4).

    A convolution's inputs are its kernel flattened: input channel, then place. The pattern is
    that of Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks".

    Returns:
        The layers that were left as they are, as the count of their inputs is no multiple of 4.

    Raises:
        StageError: No layer has a multiple of 4.
    """
    import torch

    weights = layers(network)
    fitting = {n: w for n, w in weights.items() if (w.numel() // w.shape[0]) % 4 == 0}
    if not fitting:
        counts = ", ".join(f"{n}: {w.numel() // w.shape[0]}" for n, w in weights.items())
        raise StageError(f"2:4 needs layers whose inputs are a multiple of 4; there are {counts}")
    with torch.no_grad():
        for weight in fitting.values():
            fours = weight.reshape(-1, 4)
            smallest = fours.abs().argsort(dim=1, stable=True)[:, :2]
            weight.copy_(fours.scatter(1, smallest, 0.0).view(weight.shape))
    return [name for name in weights if name not in fitting]


def layers(network: nn.Module) -> dict[str, Tensor]:
    """The weights of convolutions, linear, recurrent and attention layers, by layer.

    Tied ones are there once, an embedding's are not; a layer that has several is named with each
    (``body.weight_ih_l0``).

    Raises:
        StageError: There is none.
    """
    from torch import nn

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.MultiheadAttention)
    seen = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    found: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, kinds):
            for word, weight in module.named_parameters(recurse=False):
                if id(weight) not in seen and weight.dim() > 1 and not word.startswith("bias"):
                    seen.add(id(weight))
                    found[".".join(part for part in (name, word) if part != "weight")] = weight
    if not found:
        raise StageError(
            "there is nothing to prune: no convolution and no linear, recurrent or attention layer"
        )
    return found
