"""KV pools: memory for keys and values of sequences of about one length, one slot each."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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

    @property
    def n_rows(self) -> int:
        """Slots that memory is held for."""
        return self._rows

    @property
    def address(self) -> int:
        """Where its memory begins."""
        return self.keys[0].data_ptr()

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
                held[slot.row, : last.used] = held[last.row, : last.used]
            last.row = slot.row
            self.slots[slot.row] = last
        if 4 * len(self.slots) <= self._rows and self.capacity > SMALLEST:
            self._resize(2 * len(self.slots))

    def clear(self, slot: "Slot") -> None:
        """Forget a slot that may hold NaN."""
        for held in (*self.keys, *self.values):
            held[slot.row, : slot.used].zero_()

    def read(self, slot: "Slot", start: int, end: int) -> Tensor:
        """The keys and values of consecutive positions of a slot, flat."""
        return torch.cat([held[slot.row, start:end].reshape(-1) for held in (*self.keys, *self.values)])

    def write(self, slot: "Slot", start: int, blocks: Sequence[Tensor]) -> None:
        """Put what was read in blocks of equal length in a row from position ``start`` on, each copied once."""
        widths = [heads * width for heads, *of_layer in self._shapes for width in of_layer[:1]]
        widths += [heads * width for heads, *of_layer in self._shapes for width in of_layer[1:]]
        length = blocks[0].numel() // sum(widths)
        end = start + length * len(blocks)
        parts = zip(*(torch.split(block, [length * width for width in widths]) for block in blocks), strict=True)
        for held, states in zip((*self.keys, *self.values), parts, strict=True):
            torch.cat(states, out=held[slot.row, start:end].view(-1))
        slot.holds(end)

    def _resize(self, rows: int) -> None:
        sizes = [heads * width for heads, *widths in self._shapes for width in widths]
        flat = _zeros(rows * self.capacity * sum(sizes), self._dtype, self._device)
        parts = iter(torch.split(flat, [rows * self.capacity * size for size in sizes]))
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for layer, (heads, key_width, value_width) in enumerate(self._shapes):
            for held, before, width in ((keys, self.keys, key_width), (values, self.values, value_width)):
                tensor = next(parts).view(rows, self.capacity, heads, width)
                for slot in self.slots:
                    tensor[slot.row, : slot.used] = before[layer][slot.row, : slot.used]
                held.append(tensor)
        self.keys, self.values, self._rows = keys, values, rows


def _zeros(numbers: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros rather than empty memory: a NaN would reach the sum even where attention gives it no weight.

    On a CPU the system gives a page of zeros when it is first written to, so that only tokens that are there take
    memory and time; what frees the tensor gives all of it back.
    """
    if device.type != "cpu" or not numbers:
        return torch.zeros(numbers, dtype=dtype, device=device)
    pages = mmap.mmap(-1, numbers * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype)


@dataclass(eq=False)
class Slot:
    """One sequence's row in a pool; the row changes when others leave."""

    pool: KVPool
    row: int
    used: int = 0
    """Positions up to the last one written: all that is copied when the row moves."""

    def holds(self, end: int) -> None:
        """Positions before ``end`` have been written, or are about to be."""
        self.used = max(self.used, end)
