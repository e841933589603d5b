"""Huge pages: dense memory gets them, sparse memory stays sparse, and nothing that is in it changes."""

import mmap
import re
from pathlib import Path

import pytest
import torch

from serving import huge_pages
from serving.engine.slots.kv_pool import _zeros
from serving.huge_pages import PAGE, gather_memory
from tests.mutants import mutant

SIZE = 8 * PAGE


@pytest.fixture
def anonymous():
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_DONTFORK)  # so that it stays a mapping of its own
        yield memory


def kilobytes(memory, name):
    """Of the mapping that ``memory`` is, or is part of."""
    place = huge_pages.ctypes.addressof(huge_pages.ctypes.c_char.from_buffer(memory))
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= place < int(found[2], 16)
        elif inside and line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError("no such mapping")


@pytest.mark.skipif(not gather_memory(), reason="this system gives no huge pages at once")
def test_dense_memory_lies_in_huge_pages(anonymous):
    content = bytes(range(256)) * (SIZE // 256)
    anonymous.write(content)
    before = kilobytes(anonymous, "AnonHugePages")
    assert gather_memory() >= SIZE - PAGE
    assert kilobytes(anonymous, "AnonHugePages") >= before + (SIZE - 2 * PAGE) // 1024
    assert anonymous[:] == content


def grown_by(anonymous, gather):
    """Kilobytes that sparse memory takes more after gathering."""
    for begin in range(0, SIZE, 16 * mmap.PAGESIZE):
        anonymous[begin] = 1
    before = kilobytes(anonymous, "Rss")
    gather()
    return kilobytes(anonymous, "Rss") - before


def test_sparse_memory_stays_sparse(anonymous):
    assert grown_by(anonymous, gather_memory) == 0


@pytest.mark.skipif(not gather_memory(), reason="this system gives no huge pages at once")
def test_keys_and_values_stay_in_small_pages():
    zeros = _zeros(SIZE // 4, torch.float32, torch.device("cpu"))
    zeros.fill_(1.0)
    gather_memory()
    assert kilobytes(zeros.numpy(), "AnonHugePages") == 0
    assert bool((zeros == 1).all())


@pytest.mark.skipif(not gather_memory(), reason="this system gives no huge pages at once")
def test_without_that_rule_it_would_not(anonymous):
    with mutant(huge_pages, "DENSE = 0.9", "DENSE = 0") as changed:
        assert grown_by(anonymous, changed.gather_memory) > SIZE // 2 // 1024


def test_a_system_that_tells_nothing_is_left_alone(monkeypatch):
    monkeypatch.setattr(huge_pages, "_lines", lambda _: [])
    assert gather_memory() == 0


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(huge_pages.sys, "platform", "darwin")
    assert gather_memory() == 0
