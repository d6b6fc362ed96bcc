"""How large a network is: parameters, multiply-accumulates, zeros."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn


def of(network: nn.Module, x: Mapping[str, NDArray[np.generic]]) -> Mapping[str, float]:
    """``parameters``, ``macs`` of one sample, and ``sparsity``, the share of weights that are zero.

    Multiply-accumulates are half of the floating-point operations that PyTorch's counter sees
    (convolutions, matrix products, attention; nothing of recurrent layers); a zero weight counts
    as any other.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    inputs = [torch.from_numpy(np.array(a[:1])) for a in x.values()]
    with torch.no_grad(), _unfused_attention(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    weights = [p for p in network.parameters() if p.dim() > 1]
    total = sum(p.numel() for p in weights)
    zeros = sum(int((p == 0).sum()) for p in weights)
    return {
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "macs": counter.get_total_flops() / 2,
        "sparsity": zeros / total if total else 0.0,
    }


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
