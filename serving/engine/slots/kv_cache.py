"""KV cache: keys and values of many sequences, one slot each, behind the transformers Cache API.

A forward pass takes the tokens of all sequences in one row ``[1, tokens]``. Only attention looks at which token belongs
to which slot; for every other part of a decoder they are just tokens. Nothing is shared between slots:
a prompt that begins as an earlier one gets a copy (``prefix_cache``).

Slots lie in pools by capacity, 64 positions and doubled from there, so that memory follows the tokens held: a long
sequence has a row in a pool of long ones, and an empty pool has no memory. The pool of the smallest slots alone keeps
its rows until nothing runs, and on a GPU for good, where a recorded step reads them. A pool is one tensor over all
layers; on a CPU the pages of it that hold no token take no memory.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from serving.engine.slots.kv_pool import (
    KVPool,
    LayerShape,
    Slot,
    bytes_per_token,
    capacity_for,
    full_bytes,
    smallest_on,
)
from serving.engine.slots.token_batch import TokenBatch


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's door to the pools."""

    is_sliding = False

    def __init__(self, cache: "SlotCache", layer: int) -> None:
        super().__init__()
        self._cache, self._layer = cache, layer

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Pools make their own memory."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store ``[1, heads, tokens, width]`` in the slots of the batch; attention reads them there."""
        self.store(key_states[0].transpose(0, 1), value_states[0].transpose(0, 1))
        return key_states, value_states

    def store(self, keys: Tensor, values: Tensor) -> None:
        """The same for ``[tokens, heads, width]``."""
        batch = self._cache.batch
        batch.layer = self._layer
        begin, heads = 0, keys.shape[1]
        for group in batch.groups:
            end, places = begin + group.count, group.places_of(heads)
            for held, states in ((group.pool.keys, keys), (group.pool.values, values)):
                flat = held[self._layer].view(-1, states.shape[-1])
                flat.index_copy_(0, places, states[begin:end].reshape(-1, states.shape[-1]))
            begin = end
        for span in batch.spans:
            end, row = begin + span.count, span.slot.row
            for held, states in ((span.slot.pool.keys, keys), (span.slot.pool.values, values)):
                held[self._layer][row, :, span.start : span.end] = states[begin:end].transpose(0, 1)
            begin = end

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):  # type: ignore[misc]
    """Slots for sequences of any length over layers of these shapes."""

    batch: TokenBatch
    """Of the forward pass that follows."""

    def __init__(self, shapes: Sequence[LayerShape], dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(layers=[SlotLayer(self, layer) for layer in range(len(shapes))])
        self._make = shapes, dtype, device
        self._smallest = smallest_on(device)
        self._pools: dict[int, KVPool] = {}

    @property
    def positions(self) -> int:
        """Positions that memory is held for, over all slots."""
        return sum(pool.positions for pool in list(self._pools.values()))  # another thread may ask

    @property
    def bytes_per_token(self) -> int:
        shapes, dtype, _ = self._make
        return bytes_per_token(shapes, dtype)

    @property
    def held(self) -> int:
        """Bytes."""
        return self.positions * self.bytes_per_token

    def held_when_full(self, slots: int, length: int) -> int:
        """Bytes, when so many slots have all grown to ``length`` positions."""
        shapes, dtype, _ = self._make
        return full_bytes(shapes, dtype, slots, length, self._smallest)

    def reserve(self, length: int) -> Slot:
        """A slot for at least ``length`` positions."""
        capacity = capacity_for(length, self._smallest)
        shapes, dtype, device = self._make
        if capacity not in self._pools:
            self._pools[capacity] = KVPool(shapes, capacity, dtype, device)
        return self._pools[capacity].add()

    def grow(self, slot: Slot, used: int, length: int) -> Slot:
        """A slot for ``length`` positions with the first ``used`` of this one: itself, or a larger one in its place."""
        if length <= slot.pool.capacity:
            return slot
        larger = self.reserve(length)
        larger.pool.take(larger, slot, used)
        self.release(slot)
        return larger

    def release(self, slot: Slot) -> None:
        slot.pool.remove(slot)
        if not slot.pool.slots and slot.pool.capacity > self._smallest:
            del self._pools[slot.pool.capacity]
        *_, device = self._make
        if device.type == "cpu" and not any(pool.slots for pool in self._pools.values()):
            self._pools.clear()
