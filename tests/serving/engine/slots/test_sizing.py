"""The sizing table of the service's page, held to what pools of slots hold."""

import re
from pathlib import Path

import pytest
import torch

from serving.engine.slots.kv_cache import KVPool

README = Path(__file__).parents[4] / "serving" / "README.md"
ROWS = re.findall(
    r"^\| [\w.-]+ \| (\d+), (\d+) × (\d+) \| (\w+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", README.read_text(), re.M
)
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def held(layers, heads, width, precision, slots, tokens):
    """Bytes of a pool of so many slots, on a device that has no memory."""
    pool = KVPool([(heads, width, width)] * layers, tokens, getattr(torch, precision), torch.device("meta"))
    for _ in range(slots):
        pool.add()
    return sum(tensor.numel() * tensor.element_size() for tensor in (*pool.keys, *pool.values))


def test_there_is_a_table():
    assert len(ROWS) >= 3


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[:4]))
def test_a_row_says_what_slots_hold(row):
    layers, heads, width = map(int, row[:3])
    for text, (slots, tokens) in zip(row[4:], ((1, 1), (16, 256), (16, 2048)), strict=True):
        number, unit = text.split()
        expected = held(layers, heads, width, row[3], slots, tokens)
        assert float(number) * UNITS[unit] == pytest.approx(expected, rel=0.005)
