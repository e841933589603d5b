"""Attention over slots, registered with transformers as the implementation ``slots``."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from serving.engine.slots.kv_cache import TokenBatch, prompt_mask

SLOTS = "slots"


def attend(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _attention_mask: None,
    *,
    batch: TokenBatch,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """``query`` is ``[1, heads, tokens, head_dim]``, ``key`` and ``value`` are a ``SlotLayer``'s; the answer is
    ``[1, tokens, heads, head_dim]``.
    """
    parts = []
    n, heads, groups = batch.n_decoding, query.shape[1], key.shape[1]
    if n:
        # One query token a slot: the heads that share keys stand in the place of a sequence, so no key is copied.
        grouped = query[0, :, :n].transpose(0, 1).reshape(n, groups, heads // groups, -1)
        keys, values = (held[:n, :, : batch.longest_decoding] for held in (key, value))
        weighted = _by_product(grouped, keys, values, batch.decoding_mask(sliding_window), scaling, softcap)
        parts.append(weighted.reshape(1, n, heads, -1))
    begin = n
    for span in batch.prompts:
        own = query[:, :, begin : begin + span.count]
        keys, values = (held[span.slot : span.slot + 1, :, : span.end] for held in (key, value))
        mask = prompt_mask(span, sliding_window, query.device)
        parts.append(_by_kernel(own, keys, values, mask, scaling, softcap).transpose(1, 2))
        begin += span.count
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), None


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

    For few query tokens this is faster than the kernel on a CPU, above all with keys on the left: they are many, and
    read in the order in which they lie in memory.
    """
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = (key @ query.transpose(2, 3)).transpose(2, 3).float()
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1).to(value.dtype) @ value


AttentionInterface.register(SLOTS, attend)
