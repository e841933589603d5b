"""Fused blocks: decoder blocks of Llama's kind as few operations on packed products.

The operations of a step of few tokens take microseconds each. The modules of transformers add their own calls to them,
turn queries apart from keys, and lay both out anew for a cache that slots do not have. But for their norms, which round
once less, fused blocks have the bits of the modules.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from serving.engine.slots.attention import attended
from serving.engine.slots.kv_cache import SlotCache
from serving.engine.slots.token_batch import TokenBatch
from serving.engine.slots.weight_packing import PackedProduct

WINDOWS: Mapping[type[nn.Module], Callable[[Any], int | None]] = {
    LlamaDecoderLayer: lambda _: None,
    MistralDecoderLayer: lambda attention: attention.config.sliding_window,
    Qwen2DecoderLayer: lambda attention: attention.sliding_window,
}
"""Blocks that compute alike, by how their attention tells its sliding window."""


@contextmanager
def fused(network: nn.Module, products: Sequence[PackedProduct]) -> Iterator[int]:
    """While open, blocks whose layers are all packed run fused in slots; how many do. Others are left alone."""
    by_layers: dict[tuple[nn.Module, ...], PackedProduct] = {tuple(product.layers): product for product in products}
    rotation = Rotation()
    taken: list[nn.Module] = []
    for block in network.modules():
        forward = _fused_forward(block, by_layers, rotation) if type(block) in WINDOWS else None
        if forward is not None:
            block.forward = forward
            taken.append(block)
    try:
        yield len(taken)
    finally:
        for block in taken:
            del block.forward


class Rotation:
    """Cosines and signed sines ``[tokens, 1, width]`` of the step that runs, made once for all of its layers."""

    def __init__(self) -> None:
        self._of: Tensor | None = None
        self._cosines, self._sines = torch.empty(0), torch.empty(0)

    def turned(self, heads: Tensor, embeddings: tuple[Tensor, Tensor]) -> Tensor:
        """``heads`` is ``[tokens, heads, width]``; the half that a number is turned by lies half a width away."""
        cosines, sines = embeddings
        half = heads.shape[-1] // 2
        if cosines is not self._of:
            self._of, self._cosines = cosines, cosines[0, :, None]
            self._sines = torch.cat([-sines[0, :, None, :half], sines[0, :, None, half:]], dim=-1)
        return (heads * self._cosines).add_(heads.roll(half, -1).mul_(self._sines))


def normalised_by(norm: Any) -> Callable[[Tensor], Tensor]:
    """The root mean square norm as one kernel: numbers beside their negatives have that as standard deviation."""
    width, doubled, epsilon = norm.weight.shape[0], torch.cat([norm.weight, norm.weight]), norm.variance_epsilon

    def normalised(states: Tensor) -> Tensor:
        both = torch.cat([states, -states], dim=-1)
        return layer_norm(both, [2 * width], doubled, None, epsilon)[..., :width].contiguous()

    return normalised


def _fused_forward(
    block: Any, by_layers: Mapping[tuple[nn.Module, ...], PackedProduct], rotation: Rotation
) -> Callable[..., Tensor] | None:
    attention, mlp, plain = block.self_attn, block.mlp, block.forward
    layers = (
        (attention.q_proj, attention.k_proj, attention.v_proj),
        (attention.o_proj,),
        (mlp.gate_proj, mlp.up_proj),
        (mlp.down_proj,),
    )
    if any(of_product not in by_layers for of_product in layers):
        return None
    project, put_out, widen, narrow = (by_layers[of_product] for of_product in layers)
    before, between = normalised_by(block.input_layernorm), normalised_by(block.post_attention_layernorm)
    width, window = attention.head_dim, WINDOWS[type(block)](attention)
    n_queries, n_turned = (
        sum(layer.out_features for layer in of_heads) // width for of_heads in (layers[0][:1], layers[0][:2])
    )

    def forward(
        hidden_states: Tensor,
        *,
        batch: TokenBatch | None = None,
        past_key_values: SlotCache | None = None,
        position_embeddings: tuple[Tensor, Tensor],
        **rest: Any,
    ) -> Tensor:
        if batch is None or past_key_values is None:
            given = {"past_key_values": past_key_values, "position_embeddings": position_embeddings}
            result: Tensor = plain(hidden_states, **given, **rest)
            return result
        heads = project.multiply(before(hidden_states)).view(hidden_states.shape[1], -1, width)
        turned = rotation.turned(heads[:, :n_turned], position_embeddings)
        past_key_values.layers[attention.layer_idx].store(turned[:, n_queries:], heads[:, n_turned:])
        mixed = attended(turned[:, :n_queries], batch, scaling=attention.scaling, window=window)
        hidden_states = hidden_states + put_out.multiply(mixed.view(1, len(mixed), -1))
        gate, up = widen.multiply(between(hidden_states)).chunk(2, dim=-1)
        return hidden_states + narrow.multiply(mlp.act_fn(gate) * up)

    return forward
