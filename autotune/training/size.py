"""How large a network is: parameters, multiply-accumulates, zeros."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn


def of(network: nn.Module, x: Mapping[str, NDArray[np.generic]]) -> Mapping[str, float]:
    """``parameters``, ``macs`` of one sample, and ``sparsity``, the share of weights that are zero.

    ``parameters_read`` are those that each request reads: of a table of embeddings that no other
    layer shares a few rows are, which count for nothing.
    Multiply-accumulates are half of the floating-point operations that PyTorch's counter sees
    (convolutions, matrix products, attention, recurrent layers); a zero weight counts as any other.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    inputs = [torch.from_numpy(np.array(a[:1])) for a in x.values()]
    own: Any = {torch.ops.aten.mkldnn_rnn_layer: _recurrent}
    counter = FlopCounterMode(display=False, custom_mapping=own)
    with torch.no_grad(), _unfused_attention(), counter:
        network(*inputs)
    weights = [p for p in network.parameters() if p.dim() > 1]
    total = sum(p.numel() for p in weights)
    zeros = sum(int((p == 0).sum()) for p in weights)
    return {
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "parameters_read": float(_read(network)),
        "macs": counter.get_total_flops() / 2,
        "sparsity": zeros / total if total else 0.0,
    }


def _read(network: nn.Module) -> int:
    from torch import nn

    tables = (nn.Embedding, nn.EmbeddingBag)
    layers = [m for m in network.modules() if not isinstance(m, tables)]
    return sum(p.numel() for p in {p for m in layers for p in m.parameters(recurse=False)})


def _recurrent(
    x: Sequence[int], into: Sequence[int], within: Sequence[int], *_: Any, out_shape: Any
) -> int:
    """Operations of one layer in one direction, of the shapes of its input and two weights."""
    return 2 * x[0] * x[1] * (math.prod(into) + math.prod(within))


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Attention as the products that it is made of: the counter knows none of the fused kernels."""
    from torch.backends import mha
    from torch.nn.attention import SDPBackend, sdpa_kernel

    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mha.set_fastpath_enabled(before)
