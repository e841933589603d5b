"""Memory of slots: what is told is what tensors hold, and what README's table says."""

import re
import resource
from pathlib import Path

import pytest
import torch

from serving.engine.slots.kv_cache import SlotCache
from serving.engine.slots.kv_pool import SMALLEST, bytes_per_token, full_bytes

SHAPES = [(2, 4, 6), (1, 8, 8)]
README = Path(__file__).parents[4] / "serving" / "README.md"
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def tensor_bytes(cache):
    return sum(held.nbytes for pool in cache._pools.values() for held in (*pool.keys, *pool.values))


@pytest.mark.parametrize("slots", [1, 5, 16])
@pytest.mark.parametrize("length", [SMALLEST, SMALLEST + 1, 2000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_full_slots_hold_what_was_foretold(slots, length, dtype):
    cache = SlotCache(SHAPES, dtype, torch.device("cpu"))
    assert cache.held == 0
    begun = [cache.reserve(1) for _ in range(slots)]
    for slot in begun:
        while (capacity := slot.pool.capacity) < length:
            slot = cache.grow(slot, capacity, min(length, capacity + 1))
    assert cache.held == tensor_bytes(cache) == cache.held_when_full(slots, length)
    assert cache.held == full_bytes(SHAPES, dtype, slots, length)


def in_bytes(cell):
    number, unit = cell.split()
    return float(number) * UNITS[unit]


def test_the_sizing_table_says_what_a_service_foretells():
    rows = re.findall(
        r"^\| (.+) \| (\d+), (\d+) × (\d+) \| (\w+) \| (.+) \| (.+) \| (.+) \| (.+) \|$", README.read_text(), re.M
    )
    assert len(rows) == 4
    for _, layers, heads, width, precision, token, *sizes in rows:
        shapes, dtype = [(int(heads), int(width), int(width))] * int(layers), getattr(torch, precision)
        assert in_bytes(token) == bytes_per_token(shapes, dtype)
        for cell, window in zip(sizes, (256, 2048, 8192), strict=True):
            assert in_bytes(cell) == pytest.approx(full_bytes(shapes, dtype, 16, window), rel=0.005), cell


def filled(slot, value, length):
    for held in (*slot.pool.keys, *slot.pool.values):
        held[slot.row, :, :length] = value
    slot.holds(length)


def content(slot, length):
    return {float(number) for held in slot.pool.keys for number in held[slot.row, :, :length].unique()}


@pytest.mark.parametrize("length", [SMALLEST, 2 * SMALLEST])
def test_slots_keep_what_they_hold_when_others_come_and_go(length):
    cache = SlotCache(SHAPES, torch.float32, torch.device("cpu"))
    slots = [cache.reserve(length) for _ in range(9)]
    for number, slot in enumerate(slots):
        filled(slot, 1.0 + number, 40 + number)
    for number in (0, 3, 7, 8, 1, 4):
        cache.release(slots[number])
    for number in (2, 5, 6):
        assert content(slots[number], 40 + number) == {1.0 + number}
    larger = cache.grow(slots[2], 42, 4 * SMALLEST)
    others = [cache.reserve(4 * SMALLEST) for _ in range(4)]
    assert content(larger, 42) == {3.0} and larger.used == 42
    assert all(content(other, SMALLEST) == {0.0} for other in others)


def test_memory_is_given_back_when_nothing_runs():
    cache = SlotCache(SHAPES, torch.float32, torch.device("cpu"))
    long, short = cache.reserve(8000), cache.reserve(1)
    cache.release(long)
    assert cache.held == SMALLEST * bytes_per_token(SHAPES, torch.float32)
    cache.release(short)
    assert cache.held == 0


def test_only_tokens_that_are_there_take_memory():
    """One short sequence in a slot for 8,000 tokens of 64 KiB each."""
    shapes = [(16, 64, 64)] * 16
    cache = SlotCache(shapes, torch.bfloat16, torch.device("cpu"))
    before = resident()
    slot = cache.reserve(8000)
    filled(slot, 1.0, 100)
    assert cache.held == 8192 * 2**16
    assert resident() - before < 2**25  # 6.3 MiB are written; the whole slot has 512
    cache.release(slot)
    assert resident() - before < 2**25


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
