"""What PyTorch runs for a request: its operators, and the precision of the heavy ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_FLOATS = {"float": "fp32", "c10::BFloat16": "bf16", "c10::Half": "fp16", "double": "fp64"}
_PRODUCTS = {
    "aten::convolution": 0,
    "mkldnn::_convolution_pointwise": 0,
    "mkldnn::_convolution_pointwise_": 0,
    "mkldnn::_convolution_transpose_pointwise": 0,
    "aten::addmm": 1,
    "aten::mm": 0,
    "aten::bmm": 0,
    "aten::baddbmm": 1,
    "mkl::_mkl_linear": 0,
    "mkldnn::_linear_pointwise": 0,
    "aten::mkldnn_linear": 0,
    "aten::mkldnn_rnn_layer": 0,
    "aten::_scaled_dot_product_flash_attention_for_cpu": 0,
}
"""Floating-point convolutions and matrix products; which argument tells their precision. Each is
the one of its chain of calls that is always there: ``conv2d`` calls ``convolution``."""
_INTEGERS = (
    "onednn::qconv_pointwise",
    "onednn::qconv2d_pointwise",
    "onednn::qlinear_pointwise",
    "aten::_int_mm",
)
_FROZEN = "prim::mkldnn_convolution"
"""TorchScript's own convolutions, in float32, which the profiler does not see."""
_REGION = "Torch-Compiled Region"


@dataclass(frozen=True)
class Ran:
    """What one request ran.

    Attributes:
        kernels: How many heavy kernels of each precision, in the words of ``PRECISIONS``.
        operators: How often each operator was called, most frequent first.
        compiled: How many graphs of a compiler were run.
    """

    kernels: dict[str, int]
    operators: dict[str, int]
    compiled: int


def watch(request: Callable[[], object], integers: str = "int8", script: Any = None) -> Ran:
    """Profile one request.

    Args:
        request: Runs it.
        integers: The word for integer kernels, which do not tell where their ranges come from.
        script: The TorchScript module that it runs, if it does.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        request()
    events = profiled.profiler.kineto_results.events()
    kernels = Counter(word for event in events if (word := precision(event, integers)))
    operators = Counter(event.name() for event in events if "::" in event.name())
    if script is not None and (frozen := len(script.graph.findAllNodes(_FROZEN))):
        kernels["fp32"] += frozen
        operators[_FROZEN] += frozen
    return Ran(
        dict(kernels),
        dict(operators.most_common()),
        sum(event.name().startswith(_REGION) for event in events),
    )


def precision(event: Any, integers: str) -> str | None:
    """The word for what a heavy kernel computes in; None for every other event."""
    name = event.name()
    if name in _INTEGERS:
        return integers
    if name not in _PRODUCTS:
        return None
    kind = str(event.dtypes()[_PRODUCTS[name]])
    return _FLOATS.get(kind, kind)


def element(kind: str) -> str:
    """The word for a tensor's element type; "" for what is no tensor."""
    return {**_FLOATS, "signed char": "int8", "unsigned char": "int8"}.get(kind, "")


@contextmanager
def plain_attention(on: bool) -> Iterator[None]:
    """Keep torch's encoder layers from their fused kernel, whose parts autocast does not see.

    Traced with it under autocast, a graph multiplies float32 by bfloat16 and fails.
    """
    from torch.backends import mha

    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(before and not on)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)
