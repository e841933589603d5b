"""Memory of slots: what is told is what tensors hold, and what README's table says."""

import re
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
