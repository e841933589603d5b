"""Attention of generated tokens: many slots by two products, few by torch's kernel, and both are attention."""

import pytest
import torch
from transformers import AttentionInterface

from serving.engine.slots import attention, token_batch
from serving.engine.slots.kv_cache import SlotCache
from serving.engine.slots.token_batch import TokenBatch
from tests.mutants import mutant

CPU = torch.device("cpu")
HEADS, GROUPS, WIDTH = 6, 2, 16
LENGTHS = [3, 130, 64, 200, 1, 77]


@pytest.fixture
def without_tiles(monkeypatch):
    monkeypatch.setattr(attention, "HAS_TILES", False)


def slots_of(lengths, dtype=torch.bfloat16):
    """A cache of one layer with slots that hold so many positions, at random, and the slots."""
    generator = torch.Generator().manual_seed(0)
    cache = SlotCache([(GROUPS, WIDTH, WIDTH)], dtype, CPU)
    slots = [cache.reserve(max(lengths)) for _ in lengths]
    pool = slots[0].pool
    for slot, length in zip(slots, lengths, strict=True):
        for held in (pool.keys, pool.values):
            held[0][slot.row, :, :length] = torch.randn(GROUPS, length, WIDTH, generator=generator).to(dtype)
    return cache, slots


def batch_of(slots, lengths, chosen, batches=TokenBatch):
    return batches.of([(slots[n], lengths[n] - 1) for n in chosen], [], CPU)


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
            held[0][slots[number].row, :, first : lengths[number]].double() for held in (pool.keys, pool.values)
        )
        for head in range(HEADS):
            group = head * GROUPS // HEADS
            weights = torch.softmax(keys[group] @ query[0, head, place].double() * WIDTH**-0.5, 0)
            rows.append(weights @ values[group])
    return torch.stack(rows).view(1, len(chosen), HEADS, WIDTH)


def gap(module=attention, window=None, chosen=(0, 1, 3, 5), batches=TokenBatch):
    _, slots = slots_of(LENGTHS)
    query = queries(len(chosen))
    found = attended(query, batch_of(slots, LENGTHS, chosen, batches), window, module)
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
    by_products = attention._by_products
    monkeypatch.setattr(attention, "_by_products", lambda *given: (called.append(1), by_products(*given))[1])
    _, slots = slots_of([length] * count, dtype)
    batch = batch_of(slots, [length] * count, range(count))
    batch.is_invariant = invariant
    attended(queries(count, dtype), batch)
    return bool(called)


def test_many_slots_attend_by_two_products(monkeypatch, without_tiles):
    assert is_by_products(monkeypatch) and is_by_products(monkeypatch, count=2, length=200)
    assert not is_by_products(monkeypatch, count=4, length=64)
    assert not is_by_products(monkeypatch, count=1, length=250)
    assert not is_by_products(monkeypatch, dtype=torch.float32)


def test_where_sums_may_not_change_one_kernel_does_all(monkeypatch, without_tiles):
    assert not is_by_products(monkeypatch, invariant=True)


def test_a_cpu_with_tiles_attends_by_its_kernel(monkeypatch):
    monkeypatch.setattr(attention, "HAS_TILES", True)
    assert not is_by_products(monkeypatch)


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("softmax(dim=-1) @ values", "softmax(dim=-2) @ values"),
        ("alpha=scale", "alpha=1"),
        ("values.flatten(0, 1)", "keys.flatten(0, 1)"),
    ],
)
def test_another_attention_is_noticed(without_tiles, passage, replacement):
    with mutant(attention, passage, replacement) as changed:
        AttentionInterface.register(attention.SLOTS, attention.attend)  # which the mutant has put itself in place of
        changed.HAS_TILES = False
        assert not gap(changed) < 0.1


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [("value=-math.inf", "value=0"), ("repeat_interleave(heads, 0)", "repeat(heads, 1, 1)")],
)
def test_another_bias_of_products_is_noticed(without_tiles, passage, replacement):
    with mutant(token_batch, passage, replacement) as changed:
        assert not gap(batches=changed.TokenBatch, chosen=(0, 1, 2, 5)) < 0.1


def test_slots_of_several_pools_attend_at_once(without_tiles):
    cache = SlotCache([(GROUPS, WIDTH, WIDTH)], torch.bfloat16, CPU)
    lengths = [20, 64, 30, 65, 300, 290, 100]
    slots = [cache.reserve(length) for length in lengths]
    assert len({slot.pool.capacity for slot in slots}) == 3
    batch = TokenBatch.of([(slot, length - 1) for slot, length in zip(slots, lengths, strict=True)], [], CPU)
    order = [lengths.index(position + 1) for group in batch.groups for position in group.row_positions]
    for slot, length in zip(slots, lengths, strict=True):
        for held in (slot.pool.keys, slot.pool.values):
            held[0][slot.row, :, :length] = torch.randn(GROUPS, length, WIDTH).to(torch.bfloat16)
    query = queries(len(slots))
    found = attended(query, batch)
    for place, number in enumerate(order):
        alone = expected(query[:, :, place : place + 1], [slots[number]], [lengths[number]], [0], None)
        torch.testing.assert_close(found[:, place : place + 1].double(), alone, atol=0.03, rtol=0)
