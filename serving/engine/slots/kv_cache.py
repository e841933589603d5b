"""KV cache: keys and values of many sequences, one slot each, behind the transformers Cache API.

A forward pass takes the tokens of all sequences in one row ``[1, tokens]``. Only attention looks at which token belongs
to which slot; for every other part of a decoder they are just tokens. Nothing is shared between slots:
a prompt that begins as an earlier one gets a copy (``prefix_cache``).

Slots lie in pools by capacity, 256 positions and doubled from there, so that memory follows the tokens held: a long
sequence has a row in a pool of long ones, and an empty pool has no memory. The pool of the smallest slots alone keeps
its memory, so that no burst of short requests has to zero it anew. A pool is one tensor
over all layers, which the allocator gives back to the system when it is freed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

SMALLEST = 256
"""Positions of the smallest slots."""

LayerShape = tuple[int, int, int]
"""Key-value heads, and the widths of a key and of a value."""


def bytes_per_token(shapes: Sequence[LayerShape], dtype: torch.dtype) -> int:
    """Of keys and values over all layers."""
    return sum(heads * width for heads, *widths in shapes for width in widths) * dtype.itemsize


def full_bytes(shapes: Sequence[LayerShape], dtype: torch.dtype, slots: int, length: int) -> int:
    """What pools hold when ``slots`` sequences have all grown to ``length`` positions.

    A pool doubles its rows, and the pool of the smallest slots keeps those that the sequences began in. While a pool
    grows it holds its former rows too, half as much again for a moment.
    """
    rows, capacity = 1 << (slots - 1).bit_length(), capacity_for(length)
    return rows * (capacity + (SMALLEST if capacity > SMALLEST else 0)) * bytes_per_token(shapes, dtype)


def capacity_for(length: int) -> int:
    """Positions of the slots that hold ``length``."""
    capacity = SMALLEST
    while capacity < length:
        capacity *= 2
    return capacity


class KVPool:
    """Slots of one capacity: per layer, keys and values ``[rows, capacity, heads, width]``. Rows are without holes."""

    def __init__(self, shapes: Sequence[LayerShape], capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity = capacity
        self.slots: list[Slot] = []
        """By row."""
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._shapes, self._dtype, self._device = shapes, dtype, device
        self._rows = 0

    @property
    def positions(self) -> int:
        """Positions that memory is held for."""
        return self._rows * self.capacity

    def add(self) -> "Slot":
        if len(self.slots) == self._rows:
            self._resize(max(1, 2 * self._rows))
        slot = Slot(self, len(self.slots))
        self.slots.append(slot)
        return slot

    def remove(self, slot: "Slot") -> None:
        """Free a slot, whose place the last one takes."""
        last = self.slots.pop()
        if last is not slot:
            for held in (*self.keys, *self.values):
                held[slot.row] = held[last.row]
            last.row = slot.row
            self.slots[slot.row] = last
        if 4 * len(self.slots) <= self._rows and self.capacity > SMALLEST:
            self._resize(2 * len(self.slots))

    def clear(self, slot: "Slot") -> None:
        """Forget a slot that may hold NaN."""
        for held in (*self.keys, *self.values):
            held[slot.row].zero_()

    def read(self, slot: "Slot", start: int, end: int) -> Tensor:
        """The keys and values of consecutive positions of a slot, flat."""
        return torch.cat([held[slot.row, start:end].reshape(-1) for held in (*self.keys, *self.values)])

    def write(self, slot: "Slot", start: int, blocks: Tensor) -> None:
        """Put what was read in blocks of equal length, ``[blocks, values]``, in a row from position ``start`` on."""
        widths = [heads * width for heads, *of_layer in self._shapes for width in of_layer[:1]]
        widths += [heads * width for heads, *of_layer in self._shapes for width in of_layer[1:]]
        length = blocks.shape[1] // sum(widths)
        parts = torch.split(blocks, [length * width for width in widths], dim=1)
        for held, part in zip((*self.keys, *self.values), parts, strict=True):
            states = part.reshape(-1, *held.shape[2:])
            held[slot.row, start : start + len(states)] = states

    def _resize(self, rows: int) -> None:
        """Zeros rather than empty memory: a NaN would reach the sum even where attention gives it no weight."""
        sizes = [heads * width for heads, *widths in self._shapes for width in widths]
        flat = torch.zeros(rows * self.capacity * sum(sizes), dtype=self._dtype, device=self._device)
        parts = iter(torch.split(flat, [rows * self.capacity * size for size in sizes]))
        keys: list[Tensor] = []
        values: list[Tensor] = []
        kept = len(self.slots)
        for layer, (heads, key_width, value_width) in enumerate(self._shapes):
            for held, before, width in ((keys, self.keys, key_width), (values, self.values, value_width)):
                tensor = next(parts).view(rows, self.capacity, heads, width)
                if kept:
                    tensor[:kept] = before[layer][:kept]
                held.append(tensor)
        self.keys, self.values, self._rows = keys, values, rows


@dataclass(eq=False)
class Slot:
    """One sequence's row in a pool; the row changes when others leave."""

    pool: KVPool
    row: int


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of one sequence: ``count`` of them from position ``start``."""

    slot: Slot
    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count


class DecodeGroup:
    """One token of each of some slots of a pool, that attend together."""

    def __init__(self, pool: KVPool, rows: Sequence[int], positions: Sequence[int], device: torch.device) -> None:
        self.pool, self.count = pool, len(rows)
        self.n_rows = max(rows) + 1
        """Rows that attention reads; where a slot in between does not decode, its row counts for nothing."""
        self.longest = max(positions) + 1
        self.rows = None if list(rows) == list(range(self.n_rows)) else torch.tensor(rows, device=device)
        self.places = torch.tensor(
            [row * pool.capacity + position for row, position in zip(rows, positions, strict=True)], device=device
        )
        of_row = dict(zip(rows, positions, strict=True))
        self._positions = torch.tensor([of_row.get(row, 0) for row in range(self.n_rows)], device=device)
        self._masks: dict[int | None, Tensor | None] = {}

    def mask(self, window: int | None) -> Tensor | None:
        """``[rows, 1, 1, longest]``: the positions seen, of the last ``window`` where there is one."""
        if window not in self._masks:
            seen = _within(torch.arange(self.longest, device=self._positions.device), self._positions[:, None], window)
            self._masks[window] = None if bool(seen.all()) else seen[:, None, None]
        return self._masks[window]


@dataclass
class TokenBatch:
    """The slot and position of every token of one forward pass: those of decoding slots first, then spans."""

    groups: tuple[DecodeGroup, ...]
    spans: tuple[Span, ...]
    positions: Tensor
    layer: int = field(default=0, compare=False)
    """The layer whose keys and values were stored last: attention follows at once."""

    @classmethod
    def of(cls, decoding: Sequence[tuple[Slot, int]], spans: Sequence[Span], device: torch.device) -> "TokenBatch":
        """``decoding`` are slots with the position of their token, those of one pool together."""
        by_pool: dict[int, list[tuple[Slot, int]]] = {}
        for slot, position in decoding:
            by_pool.setdefault(id(slot.pool), []).append((slot, position))
        groups = tuple(
            DecodeGroup(
                members[0][0].pool, [slot.row for slot, _ in members], [position for _, position in members], device
            )
            for members in by_pool.values()
        )
        positions = [position for _, position in decoding]
        for span in spans:
            positions += range(span.start, span.end)
        return cls(groups, tuple(spans), torch.tensor(positions, device=device))


def prompt_mask(span: Span, window: int | None, device: torch.device) -> Tensor:
    """``[count, end]``: the positions that each token of a span attends to."""
    own = torch.arange(span.start, span.end, device=device)[:, None]
    return _within(torch.arange(span.end, device=device), own, window)


def _within(others: Tensor, own: Tensor, window: int | None) -> Tensor:
    seen = others <= own
    return seen if window is None else seen & (others > own - window)


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
        batch = self._cache.batch
        batch.layer = self._layer
        for held_of, states in (("keys", key_states), ("values", value_states)):
            tokens, begin = states[0].transpose(0, 1), 0
            for group in batch.groups:
                held: Tensor = getattr(group.pool, held_of)[self._layer]
                held.flatten(0, 1).index_copy_(0, group.places, tokens[begin : begin + group.count])
                begin += group.count
            for span in batch.spans:
                held = getattr(span.slot.pool, held_of)[self._layer]
                held[span.slot.row, span.start : span.end] = tokens[begin : begin + span.count]
                begin += span.count
        return key_states, value_states

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
        self._pools: dict[int, KVPool] = {}

    @property
    def positions(self) -> int:
        """Positions that memory is held for, over all slots."""
        return sum(pool.positions for pool in list(self._pools.values()))  # another thread may ask

    @property
    def held(self) -> int:
        """Bytes."""
        shapes, dtype, _ = self._make
        return self.positions * bytes_per_token(shapes, dtype)

    def held_when_full(self, slots: int, length: int) -> int:
        """Bytes, when so many slots have all grown to ``length`` positions."""
        shapes, dtype, _ = self._make
        return full_bytes(shapes, dtype, slots, length)

    def reserve(self, length: int) -> Slot:
        """A slot for at least ``length`` positions."""
        capacity = capacity_for(length)
        shapes, dtype, device = self._make
        if capacity not in self._pools:
            self._pools[capacity] = KVPool(shapes, capacity, dtype, device)
        return self._pools[capacity].add()

    def grow(self, slot: Slot, used: int, length: int) -> Slot:
        """A slot for ``length`` positions with the first ``used`` of this one: itself, or a larger one in its place."""
        if length <= slot.pool.capacity:
            return slot
        larger = self.reserve(length)
        for ours, theirs in ((larger.pool.keys, slot.pool.keys), (larger.pool.values, slot.pool.values)):
            for target, source in zip(ours, theirs, strict=True):
                target[larger.row, :used] = source[slot.row, :used]
        self.release(slot)
        return larger

    def release(self, slot: Slot) -> None:
        slot.pool.remove(slot)
        if not slot.pool.slots and slot.pool.capacity > SMALLEST:
            del self._pools[slot.pool.capacity]
