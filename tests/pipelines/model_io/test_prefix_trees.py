"""Prefix trees: what is laid into them, and that a model reads of them what it reads of each text alone."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Olmo2Config,
    OPTConfig,
    Qwen2Config,
)

from pipelines.model_io import prefix_trees as module
from pipelines.model_io import reading_batches
from pipelines.model_io.activations import extract, extract_answers
from pipelines.model_io.likelihoods import ReadingCache, likelihoods
from pipelines.model_io.prefix_trees import prefix_trees, reads_trees, shared_tokens, tree_inputs, ways
from tests.mutants import mutant
from tests.serving.engine.small_models import SMALL, small_model

TEXTS = [f"w9 w8 w7 w{number} w{number % 3} w5" for number in range(40)] + ["w9 w8", "w9 w8 w7", "w4", "w9 w8"]
SIZES = {key: value for key, value in SMALL.items() if key not in ("intermediate_size", "num_key_value_heads")}
FAMILIES = {
    "llama": (LlamaConfig(**SMALL), True),
    "qwen2": (Qwen2Config(**SMALL), True),
    "olmo2": (Olmo2Config(**SMALL), True),
    "mistral, with a window": (MistralConfig(**SMALL, sliding_window=64), True),
    "gpt_neox": (GPTNeoXConfig(**SIZES, intermediate_size=48), True),
    "gpt2": (GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=SMALL["vocab_size"], n_positions=128), True),
    "bloom, positions by its mask": (
        BloomConfig(hidden_size=32, n_layer=3, n_head=4, vocab_size=SMALL["vocab_size"]),
        False,
    ),
    "mamba, a state": (MambaConfig(hidden_size=32, num_hidden_layers=3, vocab_size=SMALL["vocab_size"]), False),
}


def model_of(config):
    model = small_model(config)
    model.tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    return model


def sequences(rng, count=60, words=4):
    return [tuple(rng.integers(1, words, size=rng.integers(1, 9)).tolist()) for _ in range(count)]


@pytest.mark.parametrize("limit", [1, 5, 16, 1000])
def test_every_text_is_in_one_tree_and_begins_once(rng, limit):
    given = sequences(rng)
    trees = prefix_trees(given, limit)
    assert sorted(number for tree in trees for number in tree.paths) == list(range(len(given)))
    for tree in trees:
        assert len(tree.tokens) <= max(limit, *(len(given[number]) for number in tree.paths))
        ways_in = set()
        for number, path in tree.paths.items():
            assert tuple(tree.tokens[place] for place in path) == given[number]
            assert all(tree.parents[after] == before for before, after in pairwise(path))
            assert tree.parents[path[0]] == path[0]
            ways_in |= {given[number][: length + 1] for length in range(len(path))}
        assert len(tree.tokens) == len(ways_in)


def test_ways_are_those_that_parents_lead(rng):
    (tree,) = prefix_trees(sequences(rng, 30), 1000)
    seen, positions = ways(np.array([tree.parents]))
    for path in tree.paths.values():
        for order, place in enumerate(path):
            assert np.flatnonzero(seen[0, place]).tolist() == sorted(path[: order + 1])
            assert positions[0, place] == order


def test_padding_attends_to_itself():
    trees = prefix_trees([(1, 2, 3), (1, 4), (5,)], 4)
    inputs = tree_inputs(trees, torch.float32, torch.device("cpu"))
    assert inputs["input_ids"].tolist() == [[1, 2, 3, 4], [5, 0, 0, 0]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 1], [0, 0, 0, 0]]
    assert (inputs["attention_mask"][1, 0] == 0).tolist() == np.eye(4, dtype=bool).tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_reads_each_text_as_alone(name, monkeypatch):
    config, readable = FAMILIES[name]
    model = model_of(config)
    assert reads_trees(model.network) == readable
    shared = extract(model, TEXTS), extract(model, TEXTS, pooling="mean"), likelihoods(model, TEXTS)
    monkeypatch.setattr(reading_batches, "WORTH", -1)
    alone = extract(model, TEXTS), extract(model, TEXTS, pooling="mean"), likelihoods(model, TEXTS)
    for ours, theirs in zip(shared[:2], alone[:2], strict=True):
        scale = np.abs(theirs.hidden_states).max()
        np.testing.assert_allclose(ours.hidden_states, theirs.hidden_states, atol=1e-5 * scale)
    np.testing.assert_allclose(shared[2].log_probabilities, alone[2].log_probabilities, rtol=1e-4, atol=1e-5)
    assert np.array_equal(shared[2].tokens, alone[2].tokens)


@pytest.mark.parametrize("tokens_per_batch", [16, 64, 1024])
def test_answers_and_steering_are_read_in_trees_too(tokens_per_batch, monkeypatch):
    model = model_of(LlamaConfig(**SMALL))
    offset = {1: torch.linspace(-1, 1, 32)}
    prompts, answers = ["w9 w8 w7"] * 40, [f" w{number} w1" for number in range(40)]
    size = {"tokens_per_batch": tokens_per_batch}
    cache = ReadingCache([1])
    likelihoods(model, TEXTS, cache=cache, **size)
    shared = likelihoods(model, TEXTS, offset, cache=cache, **size), likelihoods(model, TEXTS, offset, **size)
    read = extract_answers(model, prompts, answers, layers=[1], **size)
    monkeypatch.setattr(reading_batches, "WORTH", -1)
    alone = likelihoods(model, TEXTS, offset, **size)
    for found in shared:
        np.testing.assert_allclose(found.log_probabilities, alone.log_probabilities, rtol=1e-4, atol=1e-5)
    expected = extract_answers(model, prompts, answers, layers=[1], **size)
    np.testing.assert_allclose(read.hidden_states, expected.hidden_states, rtol=1e-4, atol=1e-5)


def test_fewer_tokens_are_run_where_texts_share_much(monkeypatch):
    model, run = model_of(LlamaConfig(**SMALL)), []
    reads_trees(model.network)
    model.trunk.register_forward_pre_hook(
        lambda _module, _given, named: run.append(named["input_ids"].numel()), with_kwargs=True
    )
    extract(model, TEXTS)
    (once, _), begun_twice = run, 3
    assert sum(run) == 3 + 3 * 40 + 1 + begun_twice and once == 64
    run.clear()
    extract(model, ["w1 w2 w3", "w2 w3 w4"])
    assert run == [3, 3]
    run.clear()
    monkeypatch.setattr(reading_batches, "WORTH", -1)
    extract(model, TEXTS)
    assert sum(run) == 6 * 40 + 6 * 4


MUTANTS = {
    "the parent is left out": ("seen[rows, places, above] = True", "seen[rows, places, places] = True"),
    "positions of the row": ("positions += moved", "positions = np.tile(places, (len(parents), 1))"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_model_refuses_trees_that_are_laid_wrongly(name):
    network = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)).eval()
    assert module._is_readable(network)
    with mutant(module, *MUTANTS[name]) as changed:
        assert not changed._is_readable(network)


def test_shared_tokens_are_counted_from_the_start():
    assert [shared_tokens(*pair) for pair in (([1, 2], [1, 2, 3]), ([1, 2], [1, 3]), ([2], [1]), ([], [1]))] == [
        *(2, 1, 0, 0)
    ]


def test_texts_beyond_a_window_are_read_alone():
    model = model_of(MistralConfig(**SMALL, sliding_window=4))
    long = [f"w9 w8 w7 w6 w5 w4 w3 w{number}" for number in range(30)]
    together = likelihoods(model, long).log_probabilities
    alone = [likelihoods(model, [text]).log_probabilities[0] for text in long]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_opt_is_read_as_alone_whatever_it_can():
    config = OPTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, ffn_dim=48, vocab_size=SMALL["vocab_size"],
        max_position_embeddings=128, word_embed_proj_dim=32,
    )  # fmt: skip
    model = model_of(config)
    together = likelihoods(model, TEXTS).log_probabilities
    alone = [likelihoods(model, [text]).log_probabilities[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
