"""Prompts that begin as earlier ones did: the same tokens as without a cache, and what is copied is what may be."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Gemma2Config

from registry.errors import InvalidInput
from serving.engine.base import EngineStopped, GenerationRequest
from serving.engine.slots import prefix_cache, scheduler, slot_sequence
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kv_cache import SlotCache
from serving.engine.slots.prefix_cache import BLOCK, PrefixCache
from serving.steering.bank import SteeringBank
from serving.steering.monitor import Monitor
from tests.mutants import mutant
from tests.serving.engine.small_models import (
    SMALL,
    VOCABULARY,
    add,
    facts,
    naive_answers,
    naive_tokens,
    plan,
    project,
    request,
    served_vector,
    small_bank,
    small_llama,
    small_model,
)

LARGE = 1 << 26
FIRST = tuple((7 * place + place * place) % VOCABULARY for place in range(40))
MORE = tuple(range(10, 21))
BANK = SteeringBank(facts(), (served_vector("toxicity", 1, probe=1), served_vector("privacy", 2, seed=1)))
LAYERS = SteeringBank(facts(), (served_vector("toxicity", 0), served_vector("privacy", 1)))
"""One direction at two layers."""


def everywhere(*strengths, bank=None):
    bank = bank or small_bank()
    return [add(bank, row, strength, "all") for row, strength in enumerate(strengths)]


@pytest.fixture
def model():
    return small_llama()


@contextmanager
def caching(model, limit=LARGE, **size):
    with SlotEngine(model, prefill_chunk=16, prefix_cache=limit, **size) as engine:
        yield engine


def blocks_of(n_tokens):
    """Tokens in full blocks."""
    return n_tokens // BLOCK * BLOCK


def two_turns(engine, first, strengths):
    """The answer to a first request, and to a second whose prompt goes on after that answer under ``strengths``."""
    answer = engine.submit(first).result(60)
    wanted = request((*first.prompt_tokens, *answer.tokens, *MORE), strengths)
    return answer, wanted, engine.submit(wanted).result(60)


def test_a_second_turn_copies_the_first(model):
    with caching(model) as engine:
        first = request(FIRST, max_tokens=30)
        answer, wanted, second = two_turns(engine, first, ())
        read = engine.stats().prompt_tokens_total
    assert (answer.outcome.cached_prompt, second.outcome.cached_prompt) == (0, blocks_of(40 + 29))
    assert read == 40 + len(wanted.prompt_tokens) - second.outcome.cached_prompt
    assert answer.tokens == naive_tokens(model, first, answer.tokens)
    assert second.tokens == naive_tokens(model, wanted, second.tokens)


TURNS = {
    "what no setting steers is shared": ([3.0], (), blocks_of(39)),
    "and by settings that differ": ([3.0], (-4.0, 2.0), blocks_of(39)),
    "and by none after all": ([], (5.0,), blocks_of(40 + 29)),
    "a prompt steered alike": (everywhere(3.0), everywhere(3.0), blocks_of(40 + 29)),
    "a prompt steered otherwise": (everywhere(3.0), everywhere(2.5), 0),
    "a prompt steered the other way": (everywhere(3.0), everywhere(-3.0), 0),
    "a prompt steered along another vector": (everywhere(3.0), everywhere(0.0, 3.0), 0),
    "a prompt steered and one not": (everywhere(3.0), (), 0),
    "a prompt not steered and one that is": ((), everywhere(3.0), 0),
    "strength zero": (everywhere(0.0), (), blocks_of(40 + 29)),
}


@pytest.mark.parametrize(("before", "after", "copied"), TURNS.values(), ids=TURNS)
def test_only_what_was_steered_alike_is_copied(model, before, after, copied):
    with caching(model) as engine:
        first = request(FIRST, before, max_tokens=30)
        answer, wanted, second = two_turns(engine, first, after)
    assert second.outcome.cached_prompt == copied
    assert answer.tokens == naive_tokens(model, first, answer.tokens)
    assert second.tokens == naive_tokens(model, wanted, second.tokens)


MUTANTS = {
    "the steering": ('digest.update(b"".join(known))', "pass", (request(FIRST, everywhere(3.0)),), request(FIRST)),
    "the strength": (
        "(offset + np.float32(0)).tobytes()",
        'b"steered"',
        (request(FIRST, everywhere(3.0)),),
        request(FIRST, everywhere(-3.0)),
    ),
    "the layer": (
        "np.int64(layer).tobytes() + ",
        "",
        (request(FIRST, [add(LAYERS, 0, 9.0, "all")], LAYERS),),
        request(FIRST, [add(LAYERS, 1, 9.0, "all")], LAYERS),
    ),
    "the tokens": (
        "np.array(tokens[start : start + BLOCK], dtype=np.int64).tobytes()",
        'b""',
        (request(FIRST),),
        request(FIRST[::-1]),
    ),
    "the tokens before": (
        "self._keys[-1] if self._keys else self._client",
        'b""',
        (request(FIRST), request(FIRST[:BLOCK][::-1])),
        request((*FIRST[:BLOCK][::-1], *FIRST[BLOCK:])),
    ),
    "movement by hidden states": (
        "        return None\n",
        "        return UNSTEERED\n",
        (request(FIRST, [add(BANK, 0, 9.0, "all", below=0.99)], BANK),),
        request(FIRST),
    ),
}


@pytest.mark.parametrize(("passage", "replacement", "before", "after"), MUTANTS.values(), ids=MUTANTS)
def test_a_key_that_forgets_gives_other_tokens(model, monkeypatch, passage, replacement, before, after):
    def second(keys=prefix_cache):
        with monkeypatch.context() as patch, caching(model) as engine:
            patch.setattr(slot_sequence, "BlockKeys", keys.BlockKeys)
            patch.setattr(slot_sequence, "steering_keys", keys.steering_keys)
            for given in before:
                engine.submit(given).result(60)
            return engine.submit(after).result(60).tokens

    expected = naive_tokens(model, after)
    assert second() == expected
    with mutant(prefix_cache, passage, replacement) as forgetful:
        assert second(forgetful) != expected


def test_a_client_is_not_told_what_another_asked(model):
    with caching(model) as engine:
        read = [
            engine.submit(replace(request(FIRST), client=client)).result(60).outcome.cached_prompt
            for client in ("anna", "bert", "anna")
        ]
    assert read == [0, 0, blocks_of(39)]


def test_a_prompt_whose_scoring_failed_leaves_nothing(model, monkeypatch):
    """Its slot has been cleared and given back before the step's blocks are kept."""
    with caching(model) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(scheduler, "log_probabilities_of_rows", lambda *_: 1 / 0)
            with pytest.raises(EngineStopped, match="ZeroDivisionError"):
                engine.submit(request(FIRST, prompt_logprobs=True)).result(60)
        answer = engine.submit(request(FIRST)).result(60)
    assert answer.outcome.cached_prompt == 0
    assert answer.tokens == naive_tokens(model, request(FIRST), answer.tokens)


def test_vectors_of_one_name_and_other_content_share_nothing(model):
    banks = [SteeringBank(facts(), (served_vector(seed=seed),)) for seed in (1, 2)]
    assert banks[0].vectors[0].reference == banks[1].vectors[0].reference
    with caching(model) as engine:
        asked = [request(FIRST, everywhere(3.0, bank=bank), bank) for bank in (*banks, banks[0])]
        answers = [engine.submit(wanted).result(60) for wanted in asked]
    assert [answer.outcome.cached_prompt for answer in answers] == [0, 0, blocks_of(39)]
    found = [answer.tokens for answer in answers]
    assert found == naive_answers(model, asked, found)


def test_settings_submitted_together_read_the_prompt_once(model):
    settings = [(), (2.0,), (0.0, -3.0), (1.0, 1.0, 1.0), (0.0, 0.0, 6.0), (-4.0, 2.5), (0.5,), (9.0, 9.0)]
    prompt = (*FIRST, *FIRST[:30])
    asked = [request(prompt, strengths) for strengths in settings]
    with caching(model, slots=8) as engine:
        answers = [generation.result(60) for generation in [engine.submit(wanted) for wanted in asked]]
        read = engine.stats().prompt_tokens_total
    assert read == len(prompt) + 7 * (len(prompt) - blocks_of(len(prompt) - 1))
    found = [answer.tokens for answer in answers]
    assert found == naive_answers(model, asked, found)


@pytest.mark.parametrize("limit", [0, 5_000, 20_000, LARGE])
def test_any_mixture_of_turns_is_answered_as_without(model, limit):
    """Prompts that share beginnings, of all scopes, more at once than there are slots, in any amount of memory."""
    generator = np.random.default_rng(5)
    asked = []
    for number in range(24):
        cut = int(generator.integers(1, 60))
        prompt = [*FIRST, *range(40, 60)][:cut] + generator.integers(0, VOCABULARY, number % 5).tolist()
        scope = ("none", "last", "all")[number % 3]
        asked.append(request(prompt, [add(small_bank(), number % 2, float(number % 4) * 2, scope)], max_tokens=20))
    with caching(model, limit, slots=5) as engine:
        answers = [generation.result(60) for generation in [engine.submit(wanted) for wanted in asked]]
        held, most = engine.stats().prefix_cache
    assert held <= most == limit
    found = [answer.tokens for answer in answers]
    assert found == naive_answers(model, asked, found)
    assert any(answer.outcome.cached_prompt for answer in answers) == (limit > 5_000)


def test_layers_that_slide_are_copied_too():
    config = Gemma2Config(**{**SMALL, "sliding_window": 8, "head_dim": 8, "attn_implementation": "eager"})
    model = small_model(config)
    with caching(model) as engine:
        _, wanted, second = two_turns(engine, request(FIRST, max_tokens=30), ())
    assert second.outcome.cached_prompt == blocks_of(40 + 29)
    assert second.tokens == naive_tokens(model, wanted, second.tokens)


def test_prompts_moved_by_their_hidden_states_are_read(model):
    """They tell how many of their tokens were moved; where the last token alone is, those before it are copied."""
    found = {}
    for limit in (0, LARGE):
        with caching(model, limit) as engine:
            engine.submit(request(FIRST, bank=BANK)).result(60)
            found[limit] = [
                engine.submit(request(FIRST, [given], BANK)).result(60)
                for scope in ("last", "all", "all")
                for given in (
                    add(BANK, 0, 4.0, scope, below=0.6),
                    project(BANK, 1, 0.5, -4.0, 4.0, prompt=scope),
                )
            ]
    cached = [answer.outcome.cached_prompt for answer in found[LARGE]]
    assert cached == [blocks_of(39)] * 2 + [0] * 4
    for with_cache, without in zip(found[LARGE], found[0], strict=True):
        assert with_cache.tokens == without.tokens
        assert with_cache.outcome.moved == without.outcome.moved
        assert with_cache.outcome.steered_prompt == without.outcome.steered_prompt
    assert found[LARGE][-1].outcome.moved[BANK.vectors[1].reference][0] > 1


def test_an_answer_moved_by_its_hidden_states_is_not_copied(model):
    with caching(model) as engine:
        first = request(FIRST, [add(BANK, 0, 4.0, "none", below=0.6)], BANK, max_tokens=30)
        _, wanted, second = two_turns(engine, first, ())
    assert second.outcome.cached_prompt == blocks_of(40)
    assert second.tokens == naive_tokens(model, wanted, second.tokens)


def test_prompt_log_probabilities_are_of_tokens_that_were_read(model):
    asked = request(FIRST, prompt_logprobs=True, top_logprobs=2, max_tokens=1)
    with caching(model) as engine:
        before, again = (engine.submit(asked).result(60) for _ in range(2))
        after = engine.submit(request(FIRST)).result(60)
    assert (again.outcome.cached_prompt, after.outcome.cached_prompt) == (0, blocks_of(39))
    assert [event.logprob for event in again.prompt] == [event.logprob for event in before.prompt]
    assert len(again.prompt) == 40


def test_a_monitor_reads_every_token_of_an_answer(model):
    wanted = GenerationRequest(FIRST, request(FIRST).sampling, plan(BANK, [2.0]), Monitor((BANK.vectors[0],)))
    with caching(model) as engine:
        before, again = (engine.submit(wanted).result(60) for _ in range(2))
    assert again.outcome.cached_prompt == blocks_of(39)
    assert len(again.outcome.readings) == 12
    np.testing.assert_allclose(again.outcome.readings, before.outcome.readings, atol=1e-5)


def test_hidden_states_are_read_anew(model):
    with caching(model) as engine:
        (before,) = engine.hidden_states([FIRST], [1]).result(60)
        engine.submit(request(FIRST)).result(60)
        (after,) = engine.hidden_states([FIRST], [1]).result(60)
    assert after[1].shape == (40, 32)
    assert np.array_equal(after[1], before[1])


def filled(cache, n_blocks, value=0.0):
    slot = cache.reserve(BLOCK * n_blocks)
    for held in (*slot.pool.keys, *slot.pool.values):
        held[slot.row] = value
    return slot


def test_the_block_unused_for_longest_goes_first():
    slots = SlotCache([(2, 4, 6)], torch.float32, torch.device("cpu"))
    size = BLOCK * 2 * (4 + 6) * 4
    cache = PrefixCache(3 * size + 1)
    first, second = [b"a", b"b"], [b"c", b"d"]
    cache.store(filled(slots, 2, 1.0), first, 0)
    cache.store(filled(slots, 1, 2.0), second[:1], 0)
    target = filled(slots, 2)
    assert cache.held == 3 * size and cache.load(target, first, 0) == 2
    cache.store(filled(slots, 2, 3.0), second, 1)  # b goes: what follows a block never outlives it
    assert [cache.load(target, keys, 0) for keys in (first, second)] == [1, 2]
    assert cache.held == 3 * size
    assert float(target.pool.values[0][target.row, 0, 0, 0]) == 2.0
    assert float(target.pool.values[0][target.row, 0, BLOCK, 0]) == 3.0


def test_values_that_are_no_numbers_are_not_kept():
    slots = SlotCache([(2, 4, 4)], torch.float32, torch.device("cpu"))
    cache = PrefixCache(LARGE)
    cache.store(filled(slots, 1, torch.nan), [b"a"], 0)
    assert (cache.held, cache.load(filled(slots, 1), [b"a"], 0)) == (0, 0)


def test_a_lack_of_memory_empties_the_cache(monkeypatch, model):
    with caching(model) as engine:
        engine.submit(request(FIRST)).result(60)
        monkeypatch.setattr("serving.engine.slots.kv_pool.KVPool.read", lambda *_: 1 / 0)
        other = request(FIRST[::-1])
        assert engine.submit(other).result(60).tokens == naive_tokens_of(model, other)
        assert engine.stats().prefix_cache == (0, LARGE)


def naive_tokens_of(_model, asked):
    return naive_tokens(small_llama(), asked)


def test_a_negative_size_is_refused(model):
    with pytest.raises(InvalidInput, match="prefix_cache is -1 and must be at least 0"):
        SlotEngine(model, prefix_cache=-1)
