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
KERNEL_KEY, PRODUCT_KEY, PRODUCTS = 0.18, 0.075, 28
"""What torch's kernel takes for a key that it reads, two products for one that a slot has room for, and the products'
calls beside the kernel's, in microseconds: in bfloat16, on a CPU without tiles, for the kernel multiplies head by head.
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
    tokens = query[0].transpose(0, 1)
    return attended(tokens, batch, scaling=scaling, window=sliding_window, softcap=softcap)[None], None


def attended(
    query: Tensor, batch: TokenBatch, *, scaling: float | None, window: int | None, softcap: float | None = None
) -> Tensor:
    """For queries ``[tokens, heads, width]`` what each attends to, alike."""
    parts, begin = [], 0
    for group in batch.groups:
        own = query[begin : begin + group.count]
        parts.append(_of_group(own, group, batch, window, scaling, softcap))
        begin += group.count
    for number, span in enumerate(batch.spans):
        own = query[begin : begin + span.count].transpose(0, 1)[None]
        biased = softcap is None
        mask = batch.prompt_bias(number, window, own.dtype) if biased else batch.prompt_mask(number, window)
        parts.append(_of_span(own, span, batch.layer, mask, scaling, softcap))
        begin += span.count
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _of_group(
    query: Tensor,
    group: DecodeGroup,
    batch: TokenBatch,
    window: int | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """One query token per slot: the heads that share keys stand in the place of a sequence, so no key is copied."""
    if group.rows is not None:
        query = query.new_zeros(group.n_rows, *query.shape[1:]).index_copy_(0, group.rows, query)
    keys, values = (held[batch.layer][: group.n_rows] for held in (group.pool.keys, group.pool.values))
    if softcap is None and not batch.is_invariant and _is_large(query, group):
        of_heads = group.bias_of_heads(window, keys.shape[1], query.dtype)
        weighted = _by_products(query, keys, values, of_heads, scaling)
    else:
        keys, values = keys[:, :, : group.longest], values[:, :, : group.longest]
        grouped = query.reshape(group.n_rows, keys.shape[1], -1, query.shape[-1])
        if softcap is None:
            with sdpa_kernel(DECODING_KERNELS) if query.is_cuda else nullcontext():
                bias = group.bias(window, query.dtype)
                weighted = scaled_dot_product_attention(grouped, keys, values, attn_mask=bias, scale=scaling)
        else:
            weighted = _with_softcap(grouped, keys, values, group.mask(window), scaling, softcap)
    weighted = weighted.reshape(*query.shape[:2], -1)
    return weighted if group.rows is None else weighted[group.rows]


def _is_large(query: Tensor, group: DecodeGroup) -> bool:
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or HAS_TILES:
        return False
    return group.n_rows * (KERNEL_KEY * group.longest - PRODUCT_KEY * group.pool.capacity) > PRODUCTS


def _by_products(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scaling: float | None) -> Tensor:
    """Slots ``[rows, groups, capacity, width]`` are read whole, for torch copies what does not lie in one piece."""
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)
    grouped = query.reshape(len(keys), -1, query.shape[-1])
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return torch.baddbmm(bias, grouped, keys.transpose(1, 2), alpha=scale).softmax(dim=-1) @ values


def _of_span(
    query: Tensor, span: Span, layer: int, mask: Tensor, scaling: float | None, softcap: float | None
) -> Tensor:
    pool, row = span.slot.pool, span.slot.row
    keys, values = (held[layer][row : row + 1, :, : span.n_keys] for held in (pool.keys, pool.values))
    return _by_kernel(query, keys, values, mask, scaling, softcap)[0].transpose(0, 1)


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None, softcap: float | None
) -> Tensor:
    """For many query tokens. The kernel knows no ``softcap``."""
    grouped = query.shape[1] != key.shape[1]
    if softcap is None:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=grouped)
    if grouped:
        key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (key, value))
    return _with_softcap(query, key, value, mask, scaling, softcap)


def _with_softcap(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float
) -> Tensor:
    """``softmax(softcap · tanh(query keyᵀ · scaling / softcap)) value``."""
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = torch.tanh((query @ key.transpose(2, 3)).float() / softcap) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1).to(value.dtype) @ value


AttentionInterface.register(SLOTS, attend)
