"""Keys and values of many sequences, one slot each, behind the transformers Cache API.

A forward pass takes the tokens of all sequences in one row ``[1, tokens]``: one token of each decoding slot, then spans
of prompts. Only attention looks at which token belongs to which slot; for every other part of a decoder they are just
tokens. Nothing is shared between slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

GROWTH = 256
"""Positions by which slots grow: memory follows the longest sequence so far, not the window."""


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of a prompt: ``count`` of them from position ``start``."""

    slot: int
    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count


class TokenBatch:
    """Which slot and position every token of one forward pass has, and what it may attend to."""

    def __init__(self, decoding: Sequence[int], prompts: Sequence[Span], device: torch.device) -> None:
        """``decoding[i]`` is the position of the one token of slot ``i``; prompts follow in other slots."""
        self.n_decoding = len(decoding)
        self.prompts = tuple(prompts)
        self.longest_decoding = max(decoding, default=-1) + 1
        self.longest = max((self.longest_decoding, *(span.end for span in prompts)))
        slots, positions = list(range(len(decoding))), list(decoding)
        for span in prompts:
            slots += [span.slot] * span.count
            positions += range(span.start, span.end)
        self.slots, self.positions = torch.tensor([slots, positions], device=device)
        self._masks: dict[int | None, Tensor | None] = {}

    def decoding_mask(self, window: int | None) -> Tensor | None:
        """``[n_decoding, 1, 1, longest_decoding]``: the positions seen, of the last ``window`` where there is one."""
        if window not in self._masks:
            own = self.positions[: self.n_decoding, None]
            others = torch.arange(self.longest_decoding, device=own.device)
            seen = _within(others, own, window)
            self._masks[window] = None if bool(seen.all()) else seen[:, None, None]
        return self._masks[window]


def prompt_mask(span: Span, window: int | None, device: torch.device) -> Tensor:
    """``[count, end]``: what each token of a span may attend to."""
    own = torch.arange(span.start, span.end, device=device)[:, None]
    return _within(torch.arange(span.end, device=device), own, window)


def _within(others: Tensor, own: Tensor, window: int | None) -> Tensor:
    seen = others <= own
    return seen if window is None else seen & (others > own - window)


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, ``[slots, positions, heads, head_dim]``."""

    is_sliding = False

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots, self.capacity = slots, 0
        self.places = torch.empty(0, dtype=torch.long)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            states.new_zeros(self.slots, self.capacity, states.shape[1], states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def reserve(self, capacity: int) -> None:
        """Zeros rather than empty memory: a NaN would reach the sum even where attention gives it no weight."""
        self.capacity = capacity
        if self.is_initialized:
            self.keys, self.values = (
                torch.cat((old, old.new_zeros(self.slots, capacity - old.shape[1], *old.shape[2:])), dim=1)
                for old in (self.keys, self.values)
            )

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store ``[1, heads, tokens, head_dim]``; the whole of every slot, ``[slots, heads, positions, head_dim]``."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        for held, states in ((self.keys, key_states), (self.values, value_states)):
            held.flatten(0, 1).index_copy_(0, self.places, states[0].transpose(0, 1))
        return self.keys.transpose(1, 2), self.values.transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):  # type: ignore[misc]
    """Slots for ``slots`` sequences over ``layers`` layers."""

    def __init__(self, layers: int, slots: int) -> None:
        super().__init__(layers=[SlotLayer(slots) for _ in range(layers)])
        self.capacity = 0

    def begin(self, batch: TokenBatch) -> None:
        """Make room for the tokens of the forward pass that follows, and say where they go."""
        if batch.longest > self.capacity:
            self.capacity = -(-batch.longest // GROWTH) * GROWTH
            for layer in self.layers:
                layer.reserve(self.capacity)
        places = batch.slots * self.capacity + batch.positions
        for layer in self.layers:
            layer.places = places

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` positions of one slot to another."""
        for layer in self.layers:
            layer.keys[target, :length] = layer.keys[source, :length]
            layer.values[target, :length] = layer.values[source, :length]

    def clear(self, slot: int) -> None:
        """Forget a slot that may hold NaN."""
        for layer in self.layers:
            layer.keys[slot].zero_()
            layer.values[slot].zero_()
