import numpy as np
import pytest
import torch

from pipelines.model_io.likelihoods import Below, likelihoods
from serving.model.language_model import load
from serving.model.residual_stream import decoder_blocks
from serving.model.sources import find_series

TEXTS = ["the city of Paris is in France", "you are kind", "a letter of Paris", "you are cruel ."]


@pytest.fixture
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def by_hand(model, text, layer=None, offset=None):
    """Log-probability of one text alone, steered by editing the weights' output instead of by a hook."""
    tokens = torch.tensor([model.tokenizer(text)["input_ids"]])
    network = model.network
    states = network.model.embed_tokens(tokens)
    positions = torch.arange(tokens.shape[1])[None]
    rotary = network.model.rotary_emb(states, positions)
    for number, block in enumerate(network.model.layers):
        states = block(states, position_embeddings=rotary, position_ids=positions)
        if number == layer:
            states = states + offset
    logits = network.lm_head(network.model.norm(states))[0].log_softmax(dim=-1)
    return float(logits[torch.arange(tokens.shape[1] - 1), tokens[0, 1:]].sum())


@pytest.mark.parametrize("tokens_per_batch", [8, 1000])
def test_plain_and_steered_they_are_those_of_each_text_alone(model, rng, tokens_per_batch):
    offset = torch.tensor(rng.normal(size=model.d_model).astype(np.float32))
    plain = likelihoods(model, TEXTS, tokens_per_batch=tokens_per_batch)
    steered = likelihoods(model, TEXTS, {1: offset}, tokens_per_batch=tokens_per_batch)
    with torch.inference_mode():
        expected = [by_hand(model, text) for text in TEXTS], [by_hand(model, text, 1, offset) for text in TEXTS]
    np.testing.assert_allclose(plain.log_probabilities, expected[0], rtol=1e-4)
    np.testing.assert_allclose(steered.log_probabilities, expected[1], rtol=1e-4)
    assert plain.tokens.tolist() == [7, 3, 4, 4]


def test_perplexity_is_that_of_all_tokens_together(model):
    found = likelihoods(model, TEXTS)
    expected = np.exp(-sum(found.log_probabilities) / 18)
    assert found.perplexity == pytest.approx(expected)
    assert found.perplexity == pytest.approx(len(model.tokenizer), rel=0.2)  # an untrained model guesses


def test_a_zero_offset_changes_nothing_at_all(model):
    plain = likelihoods(model, TEXTS).log_probabilities
    assert np.array_equal(likelihoods(model, TEXTS, {0: torch.zeros(model.d_model)}).log_probabilities, plain)


def test_layers_below_the_steered_one_run_once(model, rng):
    below, runs = Below(), []
    attention = decoder_blocks(model.network)[0].self_attn
    with_hook = attention.register_forward_hook(lambda *_: runs.append(1))
    for strength in (1.0, -2.0, 3.0):
        offsets = {1: torch.tensor((strength * rng.normal(size=model.d_model)).astype(np.float32))}
        found = likelihoods(model, TEXTS, offsets, below=below, tokens_per_batch=8)
        again = len(runs)
        alone = likelihoods(model, TEXTS, offsets, tokens_per_batch=8)
        np.testing.assert_array_equal(found.log_probabilities, alone.log_probabilities)
        assert again == (len(below.outputs) if strength == 1.0 else 0)
        runs.clear()
    with_hook.remove()
    assert all("forward" not in vars(block) for block in decoder_blocks(model.network))
