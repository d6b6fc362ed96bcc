"""See every product and residual addition that a network computes, however it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autotune.training import attention


class Watch(Protocol):
    """Is shown the operands of each product, and says what is computed with in their place."""

    def activation(self, tensor: Tensor) -> Tensor:
        """An operand that hangs on the input."""
        ...

    def weight(self, tensor: Tensor, axis: int) -> Tensor:
        """An operand that does not; its output channels lie on ``axis``."""
        ...

    def unknown(self, name: str) -> None:
        """A function was called that multiplies in a way that is not watched."""
        ...


@dataclass
class Products(TorchFunctionMode):
    """While it is entered, the operands of products and residual additions go through ``watch``.

    A function mode sees layers and plain functional calls alike: convolutions, linear layers,
    matrix products, attention (as the products it consists of), and, where ``sums``, additions of
    two tensors of one shape.

    Attributes:
        watch: What looks at the operands.
        sums: Whether it is shown residual additions too.
        attends: Whether two tensors that both hang on the input were multiplied so far.
    """

    watch: Watch
    sums: bool = True
    attends: bool = False
    _made: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        handle = _HANDLERS.get(getattr(func, "__name__", ""))
        return func(*args, **kwargs) if handle is None else handle(self, func, args, kwargs)

    def activation(self, tensor: Tensor) -> Tensor:
        """One tensor goes through ``watch`` once, however many read it, until it is changed."""
        place = (id(tensor), 0 if tensor.is_inference() else tensor._version)
        if place not in self._made:
            self._made[place] = (
                tensor,
                self.watch.activation(tensor),
            )  # kept: its id stays its own
        return self._made[place][1]

    def factors(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of a matrix product, each of which may be a weight or not."""
        self.attends |= not (_fixed(one) or _fixed(other))
        return self._factor(one, max(0, one.dim() - 2)), self._factor(other, other.dim() - 1)

    def _factor(self, tensor: Tensor, axis: int) -> Tensor:
        return self.watch.weight(tensor, axis) if _fixed(tensor) else self.activation(tensor)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return nnf.linear(self.activation(x), self.watch.weight(weight, 0), bias)

    def matmul(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.matmul(*self.factors(one, other))


_Handler = Callable[[Products, Any, tuple[Any, ...], dict[str, Any]], Any]


def _fixed(tensor: Tensor) -> bool:
    """Whether it is a parameter, or a view of one."""
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)


def _weighted(axis: int) -> _Handler:
    """Convolutions and linear layers: ``(input, weight, ...)``."""

    def handle(mode: Products, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given, kwargs = _positional(args, kwargs, ("input", "weight"))
        x, weight, *rest = given
        return func(mode.activation(x), mode.watch.weight(weight, axis), *rest, **kwargs)

    return handle


def _product(first: int) -> _Handler:
    """Matrix products, whose factors are arguments ``first`` and the next."""

    def handle(mode: Products, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) < first + 2 or "out" in kwargs:  # spelled with keywords: rare
            mode.watch.unknown(func.__name__)
            return func(*args, **kwargs)
        made = mode.factors(args[first], args[first + 1])
        return func(*args[:first], *made, *args[first + 2 :], **kwargs)

    return handle


def _sum(mode: Products, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A residual addition: two floating-point tensors of one shape."""
    if not mode.sums or len(args) < 2 or not _residual(args[0], args[1]):
        return func(*args, **kwargs)
    total = torch.add(mode.activation(args[0]), mode.activation(args[1]), *args[2:], **kwargs)
    return args[0].copy_(total) if func.__name__.endswith("_") else total


def _residual(one: object, other: object) -> bool:
    return (
        isinstance(one, Tensor)
        and isinstance(other, Tensor)
        and one.shape == other.shape
        and one.dim() > 1
        and one.is_floating_point()
        and other.is_floating_point()
        and not (_fixed(one) or _fixed(other))
    )


def _attention(mode: Products, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return attention.scaled_dot_product(mode.matmul, *args, **kwargs)


def _multi_head(mode: Products, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return attention.multi_head(mode.linear, mode.matmul, *args, **kwargs)
    except attention.RareError as reason:
        mode.watch.unknown(str(reason))
        return func(*args, **kwargs)


def _unknown(mode: Products, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    mode.watch.unknown(func.__name__)
    return func(*args, **kwargs)


def _positional(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[list[Any], dict[str, Any]]:
    """The same call with the arguments ``names``, its first ones, given by position."""
    given = [*args, *(kwargs[name] for name in names[len(args) :])]
    return given, {k: v for k, v in kwargs.items() if k not in names[len(args) :]}


_HANDLERS: Mapping[str, _Handler] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "linear"), _weighted(0)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _weighted(1)),
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "mm"), _product(0)),
    **dict.fromkeys(("addmm", "baddbmm"), _product(1)),
    **dict.fromkeys(("add", "add_", "__add__", "__iadd__"), _sum),
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"), _unknown),
    **dict.fromkeys(("rnn_tanh_cell", "rnn_relu_cell", "bilinear", "einsum"), _unknown),
    **dict.fromkeys(("tensordot", "embedding_bag", "__rmatmul__"), _unknown),
}
