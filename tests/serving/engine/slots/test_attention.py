"""Attention of generated tokens: many slots by two products, few by torch's kernel, and both are attention."""

import pytest
import torch
from transformers import AttentionInterface

from serving.engine.slots import attention
from serving.engine.slots.kv_cache import SlotCache
from serving.engine.slots.token_batch import TokenBatch
from tests.mutants import mutant

HEADS, GROUPS, WIDTH = 6, 2, 16
LENGTHS = [3, 130, 64, 200, 1, 77]


@pytest.fixture
def without_tiles(monkeypatch):
    monkeypatch.setattr(attention, "HAS_TILES", False)


def slots_of(lengths, dtype=torch.bfloat16):
    """A cache of one layer with slots that hold so many positions, at random, and the slots."""
    generator = torch.Generator().manual_seed(0)
    cache = SlotCache([(GROUPS, WIDTH, WIDTH)], dtype, torch.device("cpu"))
    slots = [cache.reserve(length) for length in lengths]
    pool = slots[0].pool
    for slot, length in zip(slots, lengths, strict=True):
        for held in (pool.keys, pool.values):
            held[0][slot.row, :length] = torch.randn(length, GROUPS, WIDTH, generator=generator).to(dtype)
    return cache, slots


def batch_of(slots, lengths, chosen):
    return TokenBatch.of([(slots[n], lengths[n] - 1) for n in chosen], [], torch.device("cpu"))


def queries(count, dtype=torch.bfloat16):
    return torch.randn(1, HEADS, count, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


def attended(query, batch, window=None, module=attention):
    return module.attend(
        torch.nn.Identity(), query, query, query, None, batch=batch, scaling=WIDTH**-0.5, sliding_window=window
    )[0]


def expected(query, slots, lengths, chosen, window):
    """In float64, slot by slot and head by head."""
    pool, rows = slots[0].pool, []
    for place, number in enumerate(chosen):
        first = 0 if window is None else max(0, lengths[number] - window)
        keys, values = (
            held[0][slots[number].row, first : lengths[number]].double() for held in (pool.keys, pool.values)
        )
        for head in range(HEADS):
            group = head * GROUPS // HEADS
            weights = torch.softmax(keys[:, group] @ query[0, head, place].double() * WIDTH**-0.5, 0)
            rows.append(weights @ values[:, group])
    return torch.stack(rows).view(1, len(chosen), HEADS, WIDTH)


def gap(module=attention, window=None, chosen=(0, 1, 3, 5)):
    _, slots = slots_of(LENGTHS)
    query = queries(len(chosen))
    found = attended(query, batch_of(slots, LENGTHS, chosen), window, module)
    return (found.double() - expected(query, slots, LENGTHS, chosen, window)).abs().max().item()


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("chosen", [(0, 1, 2, 3, 4, 5), (0, 1, 3, 5), (5, 1)])
@pytest.mark.parametrize("tiles", [False, True])
def test_attention_is_what_float64_says(monkeypatch, tiles, chosen, window):
    monkeypatch.setattr(attention, "HAS_TILES", tiles)
    assert gap(window=window, chosen=chosen) < 0.03


def is_by_products(monkeypatch, count=8, length=100, dtype=torch.bfloat16, invariant=False):
    """Whether so many slots attend by two products."""
    called = []
    by_product = attention._by_product
    monkeypatch.setattr(attention, "_by_product", lambda *given: (called.append(1), by_product(*given))[1])
    _, slots = slots_of([length] * count, dtype)
    batch = batch_of(slots, [length] * count, range(count))
    batch.is_invariant = invariant
    attended(queries(count, dtype), batch)
    return bool(called)


def test_many_slots_attend_by_two_products(monkeypatch, without_tiles):
    assert is_by_products(monkeypatch) and is_by_products(monkeypatch, count=4, length=129)
    assert not is_by_products(monkeypatch, count=4, length=64)
    assert not is_by_products(monkeypatch, count=3, length=250)
    assert not is_by_products(monkeypatch, dtype=torch.float32)


def test_where_sums_may_not_change_one_kernel_does_all(monkeypatch, without_tiles):
    assert not is_by_products(monkeypatch, invariant=True)


def test_a_cpu_with_tiles_attends_by_its_kernel(monkeypatch):
    monkeypatch.setattr(attention, "HAS_TILES", True)
    assert not is_by_products(monkeypatch)


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("scores.masked_fill(~mask, -math.inf)", "scores"),
        ("scores.softmax(dim=-1)", "scores.softmax(dim=-2)"),
        ("query * (query.shape[-1] ** -0.5 if scaling is None else scaling)", "query"),
    ],
)
def test_another_attention_is_noticed(without_tiles, passage, replacement):
    with mutant(attention, passage, replacement) as changed:
        AttentionInterface.register(attention.SLOTS, attention.attend)  # which the mutant has put itself in place of
        changed.HAS_TILES = False
        assert not gap(changed) < 0.1
