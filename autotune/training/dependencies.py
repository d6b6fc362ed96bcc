"""Which widths hang together (torch-pruning's graph), and which module stands in the way."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from autotune.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, nn


def trace(network: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """torch-pruning's dependency graph of ``network``, which is left in evaluation mode.

    Raises:
        StageError: The network cannot be traced; the message names the innermost such module.
    """
    import torch

    with named(network.eval(), "with gradients on,"), torch.enable_grad():
        network(*inputs)
    try:
        return _graph(network, inputs)
    except Exception as error:  # the edge to torch-pruning, which runs the user's code
        raise StageError(
            f"torch-pruning cannot trace {_untraceable(network, inputs)}: {_first(error)}; a module"
            " can be traced if its forward keeps every tensor in torch and in the autograd graph"
        ) from error


def _graph(network: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    import torch
    import torch_pruning

    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about every parameter that is no layer's
        graph = torch_pruning.DependencyGraph().build_dependency(
            network, example_inputs=inputs, verbose=False
        )
    if not any(isinstance(module, _layers()) for module in graph.module2node):
        raise ValueError("no convolution or linear layer is connected to its output by gradients")
    return graph


def check(graph: Any, group: Any) -> None:
    """That the channels of ``group`` are ones that its layers have.

    Raises:
        StageError: The trace lost its way at a reshape; the message names the layers around it.
    """
    for item in group:
        layer, handler = item.dep.target.module, item.dep.handler
        if isinstance(layer, _layers()):
            out = graph.is_out_channel_pruning_fn(handler)
            width = graph.get_out_channels(layer) if out else graph.get_in_channels(layer)
            if max(item.idxs) >= width:
                root, reader = group[0].dep.target.name, item.dep.target.name
                way = "a reshape beside it" if reader == root else f"a reshape before {reader}"
                raise StageError(
                    f"torch-pruning cannot follow the channels of {root}: {way} fixes a size; "
                    "flatten, or take it from x.shape"
                )


@contextmanager
def named(network: nn.Module, what: str) -> Iterator[None]:
    """Turns an error of a run of ``network`` into one that names the module that raised it.

    Raises:
        StageError: ``what``, the innermost module whose forward raised, and the error.
    """
    entered: list[str] = []
    hooks = []
    for name, module in network.named_modules():
        described = describe(name, module)
        hooks.append(module.register_forward_pre_hook(lambda *_, d=described: entered.append(d)))
        hooks.append(module.register_forward_hook(lambda *_: entered.pop() and None))
    try:
        yield
    except StageError:
        raise
    except Exception as error:  # the edge to the user's code
        where = entered[-1] if entered else "the network"
        raise StageError(f"{what} {where} fails: {_first(error)}") from error
    finally:
        for hook in hooks:
            hook.remove()


def describe(name: str, module: nn.Module) -> str:
    """A module in words: its path in the network, and its class."""
    return f"{name or 'the network'} ({type(module).__name__})"


def output_layers(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[nn.Module]:
    """The layers whose output is (a part of) the network's own: they must keep their width."""
    import torch

    made: dict[int, nn.Module] = {}

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            made[output.data_ptr()] = module

    layers = [m for m in network.modules() if isinstance(m, _layers())]
    hooks = [m.register_forward_hook(note) for m in layers]
    try:
        with torch.no_grad():
            output = network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    tensors = [t for t in flat(output) if isinstance(t, torch.Tensor)]
    return [made[t.data_ptr()] for t in tensors if t.data_ptr() in made]


def shapes(output: object) -> list[tuple[int, ...]]:
    """The shape of every tensor of a network's output."""
    return [tuple(getattr(t, "shape", ())) for t in flat(output)]


def flat(output: object) -> list[object]:
    """Every part of a network's output, out of its dicts, lists and tuples."""
    if isinstance(output, dict):
        return [t for part in output.values() for t in flat(part)]
    if isinstance(output, (list, tuple)):
        return [t for part in output for t in flat(part)]
    return [output]


def _layers() -> tuple[type[nn.Module], ...]:
    from torch import nn

    return (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


def _untraceable(network: nn.Module, inputs: tuple[Tensor, ...]) -> str:
    """The innermost module that cannot be traced by itself, on what it gets in the network."""
    import torch

    seen: dict[nn.Module, tuple[Any, ...]] = {}
    hooks = [
        m.register_forward_pre_hook(lambda module, args: seen.setdefault(module, args) and None)
        for m in network.modules()
    ]
    try:
        with torch.no_grad(), named(network, "the network's part"):
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for name, module in reversed(list(network.named_modules())):  # children before their parents
        whole = module in seen and all(isinstance(a, torch.Tensor) for a in seen[module])
        if whole and any(isinstance(m, _layers()) for m in module.modules()):
            try:
                _graph(module, tuple(a.detach() for a in seen[module]))
            except Exception:  # noqa: BLE001 - the edge: whatever it raises, it cannot
                return describe(name, module)
    return describe("", network)


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
