"""Whole channels removed from a network, with everything that depends on them (torch-pruning)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.errors import StageError
from autotune.training import allocation, clock, dependencies, heads, importance

if TYPE_CHECKING:
    from torch import Tensor, nn

    Score = Callable[[Any], Tensor | None]

Removed = list[tuple[int, list[int]]]
"""Which channels went: the number of the group, and places among its channels."""


@dataclass(frozen=True)
class Wish:
    """What shall go.

    Attributes:
        ratios: The share that goes of the layers that run in the first, the second and the last
            third of the network; three equal ones where layers are ranked together.
        allocation: uniform and stages: each layer by its ratio; global: the channels of all layers
            ranked together; latency: the same, by importance per millisecond that one saves.
        round_to: Channels are kept in multiples of this.
    """

    ratios: tuple[float, float, float]
    allocation: str = "uniform"
    round_to: int = 1


@dataclass(frozen=True)
class Group:
    """Channels of several layers that can only go together.

    Attributes:
        found: torch-pruning's own, over all of them.
        size: How many they are.
        ways: In how many equal parts they lie that must lose the same places (grouped
            convolutions, heads).
        third: In which third of the network (0, 1, 2) the layers run that make them.
    """

    found: Any
    size: int
    ways: int
    third: int

    def room(self, size: int, round_to: int) -> allocation.Room:
        """What may become of ``size`` channels.

        Each of several ways keeps two of them, as a grouped convolution with one channel a group
        would be a depthwise one, whose channels hang together otherwise.
        """
        step = math.lcm(round_to, self.ways)
        return allocation.Room(size, step, max(step, 2 * self.ways if self.ways > 1 else 1))


def remove(network: nn.Module, inputs: tuple[Tensor, ...], ratio: float, round_to: int) -> None:
    """Remove, in place, the smallest channels (group L2 norm) of every layer.

    Args:
        network: Any network that torch-pruning can trace; it is left in evaluation mode.
        inputs: One small batch, in the order of the network's arguments.
        ratio: The share of every layer's channels that goes.
        round_to: Channels are kept in multiples of this.

    Raises:
        StageError: torch-pruning cannot trace the network, nothing was removed, or the network's
            output has another shape than before.
    """
    wish = Wish((ratio,) * 3, round_to=round_to)
    score = importance.of_groups("magnitude", None)
    if not cut(network, inputs, wish, 1.0, sizes(network, inputs), score):
        raise StageError("pruning removed nothing: raise the ratio or lower round_to")


def sizes(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[int, ...]:
    """How many channels each group has, before anything is removed.

    Raises:
        StageError: There is no group: nothing in the network has channels that could go.
    """
    found = tuple(group.size for group in _groups(network, inputs)[1])
    if not found:
        kinds = sorted({type(m).__name__ for m in network.modules() if not list(m.children())})
        raise StageError(
            "no layer of this network has channels that can be removed (its outputs stay, and only "
            f"convolutions and linear layers are known); its layers: {', '.join(kinds)}"
        )
    return found


def cut(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    wish: Wish,
    progress: float,
    initial: Sequence[int],
    score: Score,
) -> Removed:
    """Remove, in place, what of ``wish`` is due at ``progress`` (0 to 1) of it.

    Args:
        network: As it is by now; the pieces that went before count.
        inputs: A small batch; where the allocation is by latency its layers are timed on it.
        wish: What shall be gone in the end.
        progress: How much of every ratio is due.
        initial: ``sizes`` of the network before anything was removed.
        score: How much each channel of a group matters.

    Returns:
        What ``again`` removes from a copy of the same network.
    """
    graph, groups = _groups(network, inputs)
    scores = [_folded(group, score) for group in groups]
    if wish.allocation in ("global", "latency"):
        ranked = scores
        if wish.allocation == "latency":
            took = clock.layers_ms(network, inputs)
            ranked = [s / _saved_ms(g, graph, took) for s, g in zip(scores, groups, strict=True)]
        keep = math.floor(sum(initial) * (1 - wish.ratios[0] * progress) + 1e-9)
        kept = allocation.ranked(ranked, [g.room(g.size, wish.round_to) for g in groups], keep)
    else:
        due = [wish.ratios[group.third] * progress for group in groups]
        rooms = [g.room(size, wish.round_to) for g, size in zip(groups, initial, strict=True)]
        kept = allocation.even(rooms, due)
    removed = [
        (number, _least(scores[number], group.ways, (group.size - kept[number]) // group.ways))
        for number, group in enumerate(groups)
        if kept[number] < group.size
    ]
    _remove(network, inputs, graph, groups, removed)
    return removed


def again(network: nn.Module, inputs: tuple[Tensor, ...], removed: Removed) -> None:
    """Remove what ``cut`` removed from a network of the same shapes."""
    graph, groups = _groups(network, inputs)
    _remove(network, inputs, graph, groups, removed)


def _groups(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, list[Group]]:
    """The graph and every group that may lose channels, always in the same order.

    The network's outputs keep their width, and so does what attention projects to its heads.

    Raises:
        StageError: The network cannot be traced, or the trace loses channels on their way.
    """
    from torch import nn

    graph = dependencies.trace(network, inputs)
    kept = dependencies.output_layers(network, inputs)
    kept += [layer for a in heads.find(network, graph) for layer in a.projections]
    order = clock.order(network, inputs)
    modules = set(network.modules())
    groups = []
    for found in graph.get_all_groups(ignored_layers=kept):
        members = [i.dep for i in found if i.dep.target.module in modules]
        makers = [d.target.module for d in members if graph.is_out_channel_pruning_fn(d.handler)]
        ran = [order[m] for m in makers if m in order]
        if any(isinstance(m, nn.MultiheadAttention) for m in makers):
            found = _from_reader(graph, found)
        if found is not None and ran:
            dependencies.check(graph, found)
            third = allocation.third(sum(ran) / len(ran), len(order))
            groups.append(Group(found, len(found[0].idxs), _ways(graph, members), third))
    return graph, groups


def _from_reader(graph: Any, found: Any) -> Any:
    """The group of an attention layer from the side of a layer that reads it; None without one."""
    from torch import nn

    for item in reversed(list(found)):
        module, handler = item.dep.target.module, item.dep.handler
        if isinstance(module, nn.Linear) and graph.is_in_channel_pruning_fn(handler):
            return graph.get_pruning_group(module, handler, list(range(module.in_features)))
    return None


def _ways(graph: Any, members: list[Any]) -> int:
    """The largest number of equal parts that a layer divides its channels into."""
    from torch import nn

    found = [1]
    for dep in members:
        layer = dep.target.module
        pruner = graph.get_pruner_of_module(layer)
        if isinstance(layer, nn.MultiheadAttention):
            found.append(layer.num_heads)
        elif getattr(layer, "groups", 1) == getattr(layer, "out_channels", 0):
            continue  # depthwise: each channel by itself
        elif graph.is_out_channel_pruning_fn(dep.handler):
            found.append(pruner.get_out_channel_groups(layer))
        else:
            found.append(pruner.get_in_channel_groups(layer))
    return max(found)


def _folded(group: Group, score: Score) -> Tensor:
    """A score for each place of a group's ways, the mean over the ways."""
    import torch

    found = score(group.found)
    if found is None:
        found = torch.ones(group.size)
    return found.detach().view(group.ways, -1).mean(0)


def _least(scores: Tensor, ways: int, count: int) -> list[int]:
    """The places of the ``count`` lowest scores, in each of the ways."""
    lowest = scores.argsort(stable=True)[:count].tolist()
    return sorted(way * len(scores) + place for way in range(ways) for place in lowest)


def _saved_ms(group: Group, graph: Any, took: dict[nn.Module, float]) -> float:
    """The milliseconds that one channel of the group costs, in all layers that make or read it."""
    total = 0.0
    for item in group.found:
        layer, handler = item.dep.target.module, item.dep.handler
        if layer in took:
            out = graph.is_out_channel_pruning_fn(handler)
            width = graph.get_out_channels(layer) if out else graph.get_in_channels(layer)
            total += took[layer] * len(item.idxs) / width / group.size
    return total


def _remove(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    graph: Any,
    groups: list[Group],
    removed: Removed,
) -> None:
    import torch

    with torch.no_grad():
        before = dependencies.shapes(network(*inputs))
        for number, places in removed:
            root = groups[number].found[0].dep
            group = graph.get_pruning_group(root.target.module, root.handler, list(places))
            if not graph.check_pruning_group(group):
                raise StageError(f"pruning would leave nothing of {root.target.name}")
            group.prune()
        with dependencies.named(network, "with fewer channels"):
            after = dependencies.shapes(network(*inputs))
    if after != before:
        raise StageError(f"pruning changed the output from {before} to {after}")
