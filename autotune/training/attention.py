"""Attention written out as the products that a runtime's graph has for it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as nnf
from torch import Tensor

Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Matmul = Callable[[Tensor, Tensor], Tensor]


class RareError(Exception):
    """A layer uses an option that is not written out here."""


def scaled_dot_product(
    matmul: Matmul,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What ``torch.nn.functional.scaled_dot_product_attention`` computes, by ``matmul``."""
    weights = _weights(matmul, query, key, attn_mask, is_causal, scale, enable_gqa)
    if enable_gqa:
        value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
    return matmul(nnf.dropout(weights, dropout_p), value)


def _weights(
    matmul: Matmul,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    grouped: bool,
) -> Tensor:
    if grouped:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
    scores = matmul(query, key.transpose(-2, -1))
    scores = scores * (1 / math.sqrt(query.size(-1)) if scale is None else scale)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores + (_added(~mask, scores) if mask.dtype == torch.bool else mask)
    return torch.softmax(scores, -1)


def multi_head(
    linear: Linear,
    matmul: Matmul,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What ``torch.nn.functional.multi_head_attention_forward`` computes, by these products.

    Raises:
        RareError: ``bias_k``, ``add_zero_attn``, static keys, or inputs without a batch.
    """
    rare = (bias_k, bias_v, static_k, static_v)
    if add_zero_attn or query.dim() != 3 or any(option is not None for option in rare):
        raise RareError("an attention layer with bias_k, static keys or no batch")
    if in_proj_weight is not None and not use_separate_proj_weight:
        q_proj_weight, k_proj_weight, v_proj_weight = in_proj_weight.chunk(3)
    weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        _split(linear(x, _there(weight), bias), num_heads)
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    mask = _merged(attn_mask, key_padding_mask, q)
    found = _weights(matmul, q, k, mask, False, None, False)
    y = matmul(nnf.dropout(found, dropout_p, training), v)  # (batch, heads, length, size)
    y = linear(y.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
    if not need_weights:
        return y, None
    return y, found.mean(1) if average_attn_weights else found


def _split(x: Tensor, heads: int) -> Tensor:
    """(length, batch, heads * size) -> (batch, heads, length, size)."""
    length, batch, _ = x.shape
    return x.reshape(length, batch, heads, -1).permute(1, 2, 0, 3)


def _merged(mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
    """Both masks as one to add, of a shape that broadcasts to (batch, heads, length, length)."""
    total = None if mask is None else _added(mask, q)
    if total is not None and total.dim() == 3:
        total = total.reshape(q.size(0), -1, *total.shape[1:])
    if padding is None:
        return total
    padding = _added(padding, q)[:, None, None, :]
    return padding if total is None else total + padding


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask to add to the scores: one of booleans is true where nothing may be read."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))


def _there(weight: Tensor | None) -> Tensor:
    if weight is None:
        raise RareError("an attention layer without weights")
    return weight
