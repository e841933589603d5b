"""KV pools: memory for keys and values of sequences of about one length, one slot each."""

import mmap
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST, SMALLEST_ON_GPU = 64, 256
"""Positions of the smallest slots. On a CPU attention reads a slot whole, so few; on a GPU a recorded step reads them
where they were, so that many sequences should end in them.
"""

LayerShape = tuple[int, int, int]
"""Key-value heads, and the widths of a key and of a value."""


def bytes_per_token(shapes: Sequence[LayerShape], dtype: torch.dtype) -> int:
    """Of keys and values over all layers."""
    return sum(heads * width for heads, *widths in shapes for width in widths) * dtype.itemsize


def full_bytes(
    shapes: Sequence[LayerShape], dtype: torch.dtype, slots: int, length: int, smallest: int = SMALLEST
) -> int:
    """What pools hold when ``slots`` sequences have all grown to ``length`` positions.

    A pool doubles its rows, and the pool of the smallest slots keeps those that the sequences began in. While a pool
    grows it holds its former rows too, half as much again for a moment.
    """
    rows, capacity = 1 << (slots - 1).bit_length(), capacity_for(length, smallest)
    return rows * (capacity + (smallest if capacity > smallest else 0)) * bytes_per_token(shapes, dtype)


def smallest_on(device: torch.device) -> int:
    return SMALLEST_ON_GPU if device.type == "cuda" else SMALLEST


def capacity_for(length: int, smallest: int) -> int:
    """Positions of the slots that hold ``length``."""
    capacity = smallest
    while capacity < length:
        capacity *= 2
    return capacity


class KVPool:
    """Slots of one capacity: per layer, keys and values ``[rows, heads, capacity, width]``.

    Rows are without holes, and those of the first slots lie in one piece of memory, which products need.
    """

    def __init__(self, shapes: Sequence[LayerShape], capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity = capacity
        self.slots: list[Slot] = []
        """By row."""
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._shapes, self._dtype, self._device = shapes, dtype, device
        self._rows = 0
        self._stacks: list[Tensor] = []
        """Keys and values by shape, ``[n, rows, heads, capacity, width]``, so that what is done to all is one call."""

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
            for stack in self._stacks:
                stack[:, slot.row, :, : last.used] = stack[:, last.row, :, : last.used]
            last.row = slot.row
            self.slots[slot.row] = last
        if 4 * len(self.slots) <= self._rows and self.capacity > smallest_on(self._device):
            self._resize(2 * len(self.slots))

    def take(self, slot: "Slot", other: "Slot", length: int) -> None:
        """Copy the first positions of a slot of another pool."""
        for stack, theirs in zip(self._stacks, other.pool._stacks, strict=True):
            stack[:, slot.row, :, :length] = theirs[:, other.row, :, :length]
        slot.holds(length)

    def clear(self, slot: "Slot") -> None:
        """Forget a slot that may hold NaN."""
        for stack in self._stacks:
            stack[:, slot.row, :, : slot.used].zero_()

    def read(self, slot: "Slot", start: int, end: int) -> Tensor:
        """The keys and values of consecutive positions of a slot, flat."""
        return torch.cat([stack[:, slot.row, :, start:end].reshape(-1) for stack in self._stacks])

    def write(self, slot: "Slot", start: int, blocks: Sequence[Tensor]) -> None:
        """Put what was read in blocks of equal length in a row from position ``start`` on, each copied once."""
        of_position = bytes_per_token(self._shapes, self._dtype) // self._dtype.itemsize
        length = blocks[0].numel() // of_position
        for block in blocks:
            begin, end = 0, start + length
            for stack in self._stacks:
                own = stack[:, slot.row, :, start:end]
                own.copy_(block[begin : begin + own.numel()].view(own.shape))
                begin += own.numel()
            start = end
        slot.holds(start)

    def _resize(self, rows: int) -> None:
        counts = Counter((heads, width) for heads, *widths in self._shapes for width in widths)
        sizes = [n * rows * heads * self.capacity * width for (heads, width), n in counts.items()]
        parts = torch.split(_zeros(sum(sizes), self._dtype, self._device), sizes)
        stacks = [
            part.view(n, rows, heads, self.capacity, width)
            for part, ((heads, width), n) in zip(parts, counts.items(), strict=True)
        ]
        for slot in self.slots:
            for stack, before in zip(stacks, self._stacks, strict=True):
                stack[:, slot.row, :, : slot.used] = before[:, slot.row, :, : slot.used]
        following = {shape: iter(stack) for shape, stack in zip(counts, stacks, strict=True)}
        of_layers = [[next(following[heads, width]) for width in widths] for heads, *widths in self._shapes]
        self.keys, self.values = ([held[part] for held in of_layers] for part in (0, 1))
        self._stacks, self._rows = stacks, rows


def _zeros(numbers: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros rather than empty memory: a NaN would reach the sum even where attention gives it no weight.

    On a CPU the system gives a page of zeros when it is first written to, so that only tokens that are there take
    memory and time; what frees the tensor gives all of it back.
    """
    if device.type != "cpu" or not numbers:
        return torch.zeros(numbers, dtype=dtype, device=device)
    pages = mmap.mmap(-1, numbers * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):  # where there are no huge pages, none needs to be declined
        pages.madvise(mmap.MADV_NOHUGEPAGE)
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
