"""Token batch: the slot and position of every token of one forward pass, and what each of them attends to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from serving.engine.slots.kv_pool import KVPool, Slot

KEY_BLOCK = 64
"""Keys are read by so many: kernels add up the rest of a row of any other length in another order."""


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of one sequence: ``count`` of them from position ``start``."""

    slot: Slot
    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def n_keys(self) -> int:
        """Positions that attention reads, so that no sum depends on where a prompt was cut."""
        return whole_blocks(self.end, self.slot.pool)


class DecodeGroup:
    """One token of each of some slots of a pool, that attend together."""

    def __init__(self, pool: KVPool, rows: Sequence[int], positions: Sequence[int], device: torch.device) -> None:
        self.pool, self.count = pool, len(rows)
        self.row_numbers, self.row_positions = rows, positions
        """The row of each token, and its position there."""
        self.n_rows = max(rows) + 1
        """Rows that attention reads; where a slot in between does not decode, its row counts for nothing."""
        self.longest = whole_blocks(max(positions) + 1, pool)
        """Positions that attention reads, so that no sum depends on how long the others are."""
        self._device = device
        self._masks: dict[int | None, Tensor | None] = {}
        self._biases: dict[int | None, Tensor | None] = {}
        self._of_heads: dict[tuple[int | None, int], Tensor] = {}
        self._places: dict[int, Tensor] = {}

    @property
    def has_holes(self) -> bool:
        return self.n_rows > self.count

    @cached_property
    def rows(self) -> Tensor | None:
        """``None`` where there are no holes and the rows are in order."""
        in_order = list(self.row_numbers) == list(range(self.n_rows))
        return None if in_order else torch.tensor(self.row_numbers, device=self._device)

    @cached_property
    def places(self) -> Tensor:
        """Where the tokens go, in the pool's positions of all rows together."""
        return torch.tensor(self.place_numbers, device=self._device)

    def places_of(self, heads: int) -> Tensor:
        """The same of each of their ``heads``, in the positions of all heads of all rows, those of a token together."""
        if heads not in self._places:
            capacity = self.pool.capacity
            of_first = self.places + self.places // capacity * ((heads - 1) * capacity)
            others = torch.arange(0, heads * capacity, capacity, device=self._device)
            self._places[heads] = (of_first[:, None] + others).flatten()
        return self._places[heads]

    @property
    def place_numbers(self) -> list[int]:
        pairs = zip(self.row_numbers, self.row_positions, strict=True)
        return [row * self.pool.capacity + position for row, position in pairs]

    def mask(self, window: int | None) -> Tensor | None:
        """``[rows, 1, 1, longest]``: the positions seen, of the last ``window`` where there is one."""
        if window not in self._masks:
            of_row = dict(zip(self.row_numbers, self.row_positions, strict=True))
            own = torch.tensor([of_row.get(row, 0) for row in range(self.n_rows)], device=self._device)
            seen = positions_seen(torch.arange(self.longest, device=self._device), own[:, None], window)
            self._masks[window] = None if bool(seen.all()) else seen[:, None, None]
        return self._masks[window]

    def bias(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """``mask`` as what is added to scores: 0, or -∞ where a position is not seen."""
        if window not in self._biases:
            mask = self.mask(window)
            self._biases[window] = None if mask is None else as_bias(mask, dtype)
        return self._biases[window]

    def bias_of_heads(self, window: int | None, heads: int, dtype: torch.dtype) -> Tensor:
        """``bias`` for every head of each row in turn and all positions that its slot has room for:
        ``[rows · heads, 1, capacity]``.
        """
        if (window, heads) not in self._of_heads:
            bias, room = self.bias(window, dtype), self.pool.capacity - self.longest
            if bias is None:
                bias = torch.zeros(self.n_rows, 1, 1, self.longest, dtype=dtype, device=self._device)
            self._of_heads[window, heads] = pad(bias[:, 0], (0, room), value=-math.inf).repeat_interleave(heads, 0)
        return self._of_heads[window, heads]


@dataclass
class TokenBatch:
    """The slot and position of every token of one forward pass: those of decoding slots first, then spans."""

    groups: tuple[DecodeGroup, ...]
    spans: tuple[Span, ...]
    device: torch.device
    layer: int = field(default=0, compare=False)
    """The layer whose keys and values were stored last: attention follows at once."""
    is_invariant: bool = field(default=False, compare=False)
    """Whether no sum may depend on how many others attend."""
    _prompt_masks: dict[tuple[int, int | None], Tensor] = field(default_factory=dict, compare=False)
    _prompt_biases: dict[tuple[int, int | None], Tensor] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, decoding: Sequence[tuple[Slot, int]], spans: Sequence[Span], device: torch.device) -> "TokenBatch":
        """``decoding`` are slots with the position of their token, those of one pool together."""
        by_pool: dict[int, list[tuple[Slot, int]]] = {}
        for span in spans:
            span.slot.holds(span.end)
        for slot, position in decoding:
            slot.holds(position + 1)
            by_pool.setdefault(id(slot.pool), []).append((slot, position))
        groups = tuple(
            DecodeGroup(
                members[0][0].pool, [slot.row for slot, _ in members], [position for _, position in members], device
            )
            for members in by_pool.values()
        )
        return cls(groups, tuple(spans), device)

    @cached_property
    def positions(self) -> Tensor:
        """Of every token in its sequence."""
        positions = [position for group in self.groups for position in group.row_positions]
        for span in self.spans:
            positions += range(span.start, span.end)
        return torch.tensor(positions, device=self.device)

    def prompt_mask(self, number: int, window: int | None) -> Tensor:
        """``[count, n_keys]``: the positions that each token of a span attends to, the same at every layer."""
        if (number, window) not in self._prompt_masks:
            span = self.spans[number]
            own = torch.arange(span.start, span.end, device=self.device)[:, None]
            others = torch.arange(span.n_keys, device=self.device)
            self._prompt_masks[number, window] = positions_seen(others, own, window)
        return self._prompt_masks[number, window]

    def prompt_bias(self, number: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """``prompt_mask`` as what is added to scores; the kernel would make one of a mask at every layer."""
        if (number, window) not in self._prompt_biases:
            self._prompt_biases[number, window] = as_bias(self.prompt_mask(number, window), dtype)
        return self._prompt_biases[number, window]


def as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a position is seen, and -∞ where it is not."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -math.inf)


def whole_blocks(length: int, pool: KVPool) -> int:
    """``length`` positions and those that fill up the last ``KEY_BLOCK``, as far as the pool's slots reach."""
    return min(pool.capacity, -(-length // KEY_BLOCK) * KEY_BLOCK)


def positions_seen(others: Tensor, own: Tensor, window: int | None) -> Tensor:
    """Which of ``others`` a token at ``own`` attends to: those up to it, of the last ``window`` where there is one."""
    seen = others <= own
    return seen if window is None else seen & (others > own - window)
