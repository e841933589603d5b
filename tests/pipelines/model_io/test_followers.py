"""Followers: that what is run is what is asked for, and each of it once."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from pipelines.model_io import followers as module
from pipelines.model_io import language_head, reading_batches
from pipelines.model_io import likelihoods as likelihoods_module
from pipelines.model_io.likelihoods import likelihoods
from tests.mutants import mutant
from tests.pipelines.model_io.test_prefix_trees import TEXTS, model_of
from tests.serving.engine.small_models import SMALL

ONCE = [*TEXTS, "w9 w8 w7 w6"]


@pytest.fixture(scope="module")
def model():
    return model_of(LlamaConfig(**SMALL))


def sequences_of(model):
    return [tuple(sequence) for sequence in model.tokenizer(ONCE)["input_ids"]]


def check_likelihoods(model, module=module):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihoods_module, "follower_batches", module.follower_batches)
        found = likelihoods(model, ONCE)
    sequences = sequences_of(model)
    with torch.inference_mode():
        for total, count, sequence in zip(found.log_probabilities, found.tokens, sequences, strict=True):
            alone = model.network(input_ids=torch.tensor([sequence])).logits[0].log_softmax(dim=-1)
            expected = float(alone[torch.arange(len(sequence) - 1), list(sequence[1:])].sum())
            assert total == pytest.approx(expected, rel=1e-4, abs=1e-5)
            assert count == len(sequence) - 1


def test_each_text_has_the_likelihood_that_it_has_alone(model, monkeypatch):
    check_likelihoods(model)
    monkeypatch.setattr(reading_batches, "WORTH", -1)
    check_likelihoods(model)


MUTANTS = {
    "what a token begins with": ("sequences[number][1:]", "sequences[number][:-1]"),
    "rows of the places run": ("(places, rows, followers % size)", "(places, 0 * rows, followers % size)"),
    "followers without their places": ("reading.places[real] * size + tokens", "0 * reading.places[real] + tokens"),
    "numbers of the passes": ("numbers[reading.rows]", "reading.rows"),
    "what is no follower counts": ("torch.zeros(1,", "torch.ones(1,"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_finds_other_likelihoods(model, name):
    with mutant(module, *MUTANTS[name]) as changed, pytest.raises((AssertionError, RuntimeError, IndexError)):
        check_likelihoods(model, changed)


def test_nothing_is_run_that_no_likelihood_asks_for(model, monkeypatch):
    rows, run, head = [], [], model.network.get_output_embeddings()
    likelihoods(model, ONCE)  # whether trees can be read is found out
    hooks = [
        head.register_forward_hook(lambda _module, _given, logits: rows.append(logits[..., 0].numel())),
        model.trunk.layers[0].register_forward_hook(
            lambda _module, given, _states: run.append(given[0][..., 0].numel())
        ),
    ]
    monkeypatch.setattr(language_head, "LOGITS_AT_ONCE", 7 * SMALL["vocab_size"])
    likelihoods(model, ONCE)
    for hook in hooks:
        hook.remove()
    followed = {sequence[:length] for sequence in sequences_of(model) for length in range(1, len(sequence))}
    begun_twice = sum(rows) - len(followed)
    assert 0 <= begun_twice <= 3 and max(rows) == 7
    assert sum(rows) <= sum(run) <= 1.02 * sum(rows)


def test_texts_of_one_token_alone_run_nothing(model):
    run = []
    hook = model.trunk.register_forward_hook(lambda *_: run.append(1))
    assert likelihoods(model, ["w1", "w2"]).log_probabilities.tolist() == [0.0, 0.0]
    hook.remove()
    assert not run


def test_a_likelihood_is_the_same_beside_other_texts(model):
    together, alone = likelihoods(model, ONCE), [likelihoods(model, [text]) for text in ONCE]
    np.testing.assert_allclose(
        together.log_probabilities, [each.log_probabilities[0] for each in alone], rtol=1e-4, atol=1e-5
    )
