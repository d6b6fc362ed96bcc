"""Whole attention heads removed from a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.errors import StageError
from autotune.training import dependencies, importance

if TYPE_CHECKING:
    from torch import Tensor, nn

ATTRIBUTE = "num_heads"
"""The attribute that usually counts a module's heads."""


@dataclass(frozen=True)
class Attention:
    """An attention module and the layers that know its heads.

    Attributes:
        name: Its path in the network.
        module: Itself.
        projections: Query, key and value; or the one layer that makes all three, in this order.
        output: The layer that reads the heads' results side by side.
    """

    name: str
    module: nn.Module
    projections: tuple[nn.Linear, ...]
    output: nn.Linear


def find(network: nn.Module, graph: Any, attribute: str = ATTRIBUTE) -> list[Attention]:
    """The modules that count heads in ``attribute`` and project to them by linear layers."""
    from torch import nn

    found = []
    for name, module in network.named_modules():
        heads = getattr(module, attribute, None)
        if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1:
            continue
        if isinstance(module, nn.MultiheadAttention):
            continue  # its inner width is its outer one
        roles = _roles(module, graph)
        if roles is not None:
            found.append(Attention(name, module, *roles))
    return found


def _roles(module: nn.Module, graph: Any) -> tuple[tuple[nn.Linear, ...], nn.Linear] | None:
    """Which linear layers inside ``module`` project to the heads, and which reads them.

    A projection's width hangs together with the input of one other layer and with nothing outside
    of the module.
    """
    import torch_pruning
    from torch import nn

    inside = [m for m in module.modules() if isinstance(m, nn.Linear) and m in graph.module2node]
    for layer in inside:
        every = list(range(layer.out_features))
        group = graph.get_pruning_group(layer, torch_pruning.prune_linear_out_channels, every)
        touched = [
            (item.dep.target.module, graph.is_out_channel_pruning_fn(item.dep.handler))
            for item in group
            if isinstance(item.dep.target.module, nn.Module)
            and list(item.dep.target.module.parameters(recurse=False))
        ]
        makers = [m for m, out in touched if out]
        readers = [m for m, out in touched if not out]
        read = [m for m in inside if m in readers]
        if len(readers) == len(read) == 1 and all(m in inside for m in makers):
            return tuple(m for m in inside if m in makers), read[0]
    return None


def named(network: nn.Module, graph: Any, attribute: str) -> list[Attention]:
    """As ``find``, but there must be some, of a kind that can lose heads.

    Raises:
        StageError: There is no such module; the message names those that look like attention.
    """
    found = find(network, graph, attribute)
    if not found:
        raise StageError(_nothing(network, attribute))
    for attention in found:
        heads = getattr(attention.module, attribute)
        wide = {p.out_features for p in attention.projections}
        where = dependencies.describe(attention.name, attention.module)
        if len(wide) > 1 or len(attention.projections) not in (1, 3):
            raise StageError(
                f"heads of {where} cannot be pruned: its projections are"
                f" {[p.out_features for p in attention.projections]} wide; query, key and value of"
                " one width can be, or one layer for all three"
            )
        if attention.output.in_features % heads:
            raise StageError(
                f"{attribute} = {heads} does not divide the {attention.output.in_features} inputs"
                f" of {where}: name the attribute that counts its heads in prune.heads"
            )
    return found


def _nothing(network: nn.Module, attribute: str) -> str:
    from torch import nn

    stock = [
        n or "the network"
        for n, m in network.named_modules()
        if isinstance(m, nn.MultiheadAttention)
    ]
    if stock:
        return (
            f"{', '.join(stock)}: torch's MultiheadAttention cannot lose heads, as its inner width"
            " is its embed_dim; write the attention with linear layers of its own"
        )
    alike = [
        f"{dependencies.describe(n, m)} with {_counters(m)}"
        for n, m in network.named_modules()
        if ("attention" in type(m).__name__.lower() or "attn" in type(m).__name__.lower())
    ]
    seen = "; ".join(alike) if alike else "no module's class has attention in its name"
    return (
        f"no module counts heads in '{attribute}' and projects to them by linear layers ({seen}):"
        " name the attribute in prune.heads, or leave prune.structure head out"
    )


def _counters(module: nn.Module) -> str:
    whole = {k: v for k, v in vars(module).items() if type(v) is int}
    return ", ".join(f"{k} = {v}" for k, v in whole.items()) or "no whole number among attributes"


# ---- ranking and removing ------------------------------------------------------------------------


def least(attention: Attention, heads: int, gone: int, criterion: str, generator: Any) -> list[int]:
    """The ``gone`` of ``heads`` whose weights, in all layers that know them, score least in sum."""
    size = attention.output.in_features // heads
    read = importance.of_weights(attention.output.weight, criterion, generator).sum(0)
    scores = read.view(heads, size).sum(1)
    for layer in attention.projections:
        made = importance.of_weights(layer.weight, criterion, generator).sum(1)
        scores = scores + made.view(-1, heads, size).sum((0, 2))
    return sorted(scores.argsort(stable=True)[:gone].tolist())


def remove(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    attribute: str,
    gone: Mapping[str, Sequence[int]],
) -> None:
    """Remove, in place, these heads (by the path of their module), and count them no more.

    Raises:
        StageError: The network does not run without them, or computes anything else than it does
            where nobody reads them.
    """
    import torch
    import torch_pruning

    with torch.no_grad():
        attentions = find(network, dependencies.trace(network, inputs), attribute)
        affected = [a for a in attentions if gone.get(a.name)]
        for attention in affected:
            attention.output.weight[:, _places(attention, attribute, gone)] = 0
        unread = network(*inputs)
        for attention in affected:
            places = _places(attention, attribute, gone)
            width = attention.output.in_features
            for layer in attention.projections:
                blocks = range(0, layer.out_features, width)
                torch_pruning.prune_linear_out_channels(
                    layer, [b + i for b in blocks for i in places]
                )
            torch_pruning.prune_linear_in_channels(attention.output, places)
            heads = getattr(attention.module, attribute) - len(gone[attention.name])
            setattr(attention.module, attribute, heads)
        with dependencies.named(network, "without some of its heads"):
            outputs = network(*inputs)
    _same(outputs, unread, attribute)


def _places(attention: Attention, attribute: str, gone: Mapping[str, Sequence[int]]) -> list[int]:
    """The places of these heads among the output layer's inputs."""
    size = attention.output.in_features // getattr(attention.module, attribute)
    return [head * size + i for head in gone[attention.name] for i in range(size)]


def _same(outputs: object, expected: object, attribute: str) -> None:
    import torch

    pairs = zip(dependencies.flat(outputs), dependencies.flat(expected), strict=True)
    for one, two in pairs:
        if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
            if one.shape == two.shape and torch.allclose(one, two, rtol=1e-3, atol=1e-4):
                continue
            raise StageError(
                "without some heads the network computes something else than with nobody reading"
                f" them: each of '{attribute}' heads must be one block of the query's, key's and"
                " value's outputs, in this order, and the scale must not hang on their count"
            )
