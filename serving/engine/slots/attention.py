"""Attention over slots, registered with transformers as the implementation ``slots``."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from serving.engine.slots.token_batch import DecodeGroup, Span, TokenBatch

SLOTS = "slots"
DECODING_KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""On CUDA, for one query token a slot: a product would copy keys and values, and cuDNN plans anew for every length."""
MANY_ROWS, MANY_KEYS = 4, 512
"""From so many slots on, which read so many positions together, two products are faster than torch's kernel: in
bfloat16, on a CPU without tiles, for the kernel multiplies head by head.
"""
HAS_TILES = torch.cpu._is_amx_tile_supported()


def attend(
    _module: nn.Module,
    query: Tensor,
    _key: Tensor,
    _value: Tensor,
    _attention_mask: None,
    *,
    batch: TokenBatch,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """``query`` is ``[1, heads, tokens, width]``; the answer is ``[1, tokens, heads, width]``. Keys and values are read
    from the slots, where the cache has stored the new ones.
    """
    parts, begin = [], 0
    for group in batch.groups:
        own = query[0, :, begin : begin + group.count]
        parts.append(_of_group(own, group, batch, sliding_window, scaling, softcap))
        begin += group.count
    for number, span in enumerate(batch.spans):
        own = query[:, :, begin : begin + span.count]
        biased = softcap is None
        mask = (
            batch.prompt_bias(number, sliding_window, own.dtype)
            if biased
            else batch.prompt_mask(number, sliding_window)
        )
        parts.append(_of_span(own, span, batch.layer, mask, scaling, softcap))
        begin += span.count
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), None


def _of_group(
    query: Tensor,
    group: DecodeGroup,
    batch: TokenBatch,
    window: int | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """One query token per slot: the heads that share keys stand in the place of a sequence, so no key is copied."""
    keys, values = (
        held[batch.layer][: group.n_rows, : group.longest].transpose(1, 2)
        for held in (group.pool.keys, group.pool.values)
    )
    tokens = query.transpose(0, 1)
    heads, groups = tokens.shape[1], keys.shape[1]
    if group.rows is not None:
        tokens = tokens.new_zeros(group.n_rows, *tokens.shape[1:]).index_copy_(0, group.rows, tokens)
    grouped = tokens.reshape(group.n_rows, groups, heads // groups, -1)
    if softcap is None and (batch.is_invariant or not _is_large(grouped, group)):
        with sdpa_kernel(DECODING_KERNELS) if query.is_cuda else nullcontext():
            bias = group.bias(window, query.dtype)
            weighted = scaled_dot_product_attention(grouped, keys, values, attn_mask=bias, scale=scaling)
    else:
        weighted = _by_product(grouped, keys, values, group.mask(window), scaling, softcap)
    weighted = weighted.reshape(1, group.n_rows, heads, -1)
    return weighted if group.rows is None else weighted[:, group.rows]


def _is_large(query: Tensor, group: DecodeGroup) -> bool:
    plain = query.device.type == "cpu" and query.dtype == torch.bfloat16 and not HAS_TILES
    return plain and group.n_rows >= MANY_ROWS and group.n_rows * group.longest >= MANY_KEYS


def _of_span(
    query: Tensor, span: Span, layer: int, mask: Tensor, scaling: float | None, softcap: float | None
) -> Tensor:
    pool, row = span.slot.pool, span.slot.row
    keys, values = (held[layer][row : row + 1, : span.n_keys].transpose(1, 2) for held in (pool.keys, pool.values))
    return _by_kernel(query, keys, values, mask, scaling, softcap).transpose(1, 2)


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None, softcap: float | None
) -> Tensor:
    """For many query tokens. The kernel knows no ``softcap``."""
    grouped = query.shape[1] != key.shape[1]
    if softcap is None:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=grouped)
    if grouped:
        key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (key, value))
    return _by_product(query, key, value, mask, scaling, softcap)


def _by_product(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float | None
) -> Tensor:
    """``softmax(query keyᵀ · scaling) value``, with the scores squashed to ±``softcap`` where there is one.

    Keys stand on the left: they are many, and read in the order in which they lie in memory.
    """
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = (key @ query.transpose(2, 3)).transpose(2, 3)
    if softcap is not None:
        scores = torch.tanh(scores.float() / softcap) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1).to(value.dtype) @ value


AttentionInterface.register(SLOTS, attend)
