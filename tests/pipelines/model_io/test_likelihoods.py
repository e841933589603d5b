import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.nn.functional import cross_entropy
from transformers import AutoConfig

from pipelines.model_io import language_head
from pipelines.model_io import likelihoods as likelihoods_module
from pipelines.model_io.language_head import has_separable_head
from pipelines.model_io.likelihoods import ReadingCache, likelihoods
from serving.model.language_model import load
from serving.model.residual_stream import decoder_blocks, steering
from serving.model.sources import find_series
from tests.mutants import mutant
from tests.serving.engine.small_models import SMALL, small_model

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


def test_texts_that_are_read_again_are_laid_out_once(model, monkeypatch):
    cache, laid_out = ReadingCache(), []
    real = likelihoods_module.follower_batches
    monkeypatch.setattr(likelihoods_module, "follower_batches", lambda *given: laid_out.append(1) or real(*given))
    for strength in (0.0, 1.0):
        likelihoods(model, TEXTS, {0: torch.full([model.d_model], strength)}, cache=cache)
    assert len(laid_out) == 1


def blocks_run(network, read):
    """How often each block computes its attention while ``read`` runs."""
    runs = [0] * len(decoder_blocks(network))
    hooks = [
        block.self_attn.register_forward_hook(lambda *_, layer=layer: runs.__setitem__(layer, runs[layer] + 1))
        for layer, block in enumerate(decoder_blocks(network))
    ]
    read()
    for hook in hooks:
        hook.remove()
    return runs


@pytest.mark.parametrize("kept", [(), (1,), (0, 1)])
def test_layers_below_the_steered_one_run_once(model, rng, kept):
    assert has_separable_head(model.network)
    check_readings(model, rng, kept)


def check_readings(model, rng, kept, module=likelihoods_module):
    cache, at, options = module.ReadingCache(kept), set(), {"tokens_per_batch": 8}
    plain = module.likelihoods(model, TEXTS, cache=cache, **options)
    assert np.array_equal(plain.log_probabilities, module.likelihoods(model, TEXTS, **options).log_probabilities)
    at |= set(kept)
    directions = torch.tensor(rng.normal(size=(2, model.d_model)).astype(np.float32))
    for number, layers in enumerate(([1], [1], [0], [2], [0, 2])):
        offsets = dict.fromkeys(layers, directions[number % 2])
        found = []
        runs = blocks_run(
            model.network,
            lambda: found.append(module.likelihoods(model, TEXTS, offsets, cache=cache, **options)),  # noqa: B023
        )
        alone = module.likelihoods(model, TEXTS, offsets, **options)
        np.testing.assert_array_equal(found[0].log_probabilities, alone.log_probabilities)
        start = max((layer for layer in at if layer <= layers[0]), default=-1)
        assert runs == [len(cache.batches) * (layer > start) for layer in range(3)]
        at.add(layers[0])
        again = blocks_run(model.network, lambda: module.likelihoods(model, TEXTS, offsets, cache=cache))  # noqa: B023
        assert again == [0, 0, 0]
    assert all("forward" not in vars(block) for block in decoder_blocks(model.network))


READING_MUTANTS = {
    "from above what is steered": ("for known in outputs if known <= lowest)", "for known in outputs)"),
    "from the lowest known": ("start = max(", "start = min("),
    "nothing is kept": ("if layer in kept:", "if False:"),
    "what steered blocks say is kept": ("enumerate(every[: lowest + 1])", "enumerate(every)"),
    "by the length of the offset alone": ("offset.cpu().numpy().tobytes()", "len(offset)"),
    "by the offset alone": ("(layer, offset.cpu()", "(0, offset.cpu()"),
}


@pytest.mark.parametrize("name", READING_MUTANTS)
def test_the_readings_tell_a_mutant_from_the_cache(model, rng, name):
    with mutant(likelihoods_module, *READING_MUTANTS[name]) as changed, pytest.raises(AssertionError):
        for kept in ((), (1,), (0, 1)):
            check_readings(model, rng, kept, changed)


FAMILIES = {
    "llama": {},
    "gemma2": {"final_logit_softcapping": 2.0, "head_dim": 8},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 8.0},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
    "gpt_neox": {"num_key_value_heads": 4},
    "mixtral": {"num_local_experts": 2},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
}
"""With what each does to its logits: a softcap, a scale, a bias, or a trunk that is not called as a whole."""
WORDS = ["w1 w2 w3 w4 w5 w6 w7", "w8 w9", "w10 w11 w12 w13", "w14", "w90 w91 w92 w93"]


def family(name, dtype=torch.float32):
    model = small_model(AutoConfig.for_model(name, **{**SMALL, **FAMILIES[name]}), dtype=dtype)
    model.tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    return model


def by_whole_logits(model, text, offsets):
    tokens = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.inference_mode(), steering(model.network, offsets):
        logits = model.network(input_ids=tokens, use_cache=False).logits[0, :-1].float()
    return -float(cross_entropy(logits, tokens[0, 1:], reduction="sum"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_agrees_with_its_own_logits(monkeypatch, rng, name):
    monkeypatch.setattr(language_head, "LOGITS_AT_ONCE", 96 * 2)  # two rows at a time
    model, widest = family(name), []
    offsets = {1: torch.tensor(rng.normal(size=32).astype(np.float32))}
    assert has_separable_head(model.network) == (name != "opt")
    head = model.network.get_output_embeddings()
    handle = head.register_forward_hook(lambda _module, _inputs, logits: widest.append(logits[..., 0].numel()))
    for given in ({}, offsets):
        found = likelihoods(model, WORDS, given).log_probabilities
        handle.remove()
        np.testing.assert_allclose(found, [by_whole_logits(model, text, given) for text in WORDS], rtol=1e-5, atol=1e-5)
    assert max(widest) == (6 + 1 + 3 + 3 if name == "opt" else 2)
    assert "forward" not in vars(model.network.base_model)


def test_texts_of_one_token_sum_to_zero():
    assert likelihoods(family("llama"), ["w1", "w2"]).log_probabilities.tolist() == [0.0, 0.0]


def test_bfloat16_agrees_to_rounding():
    model = family("gemma2", torch.bfloat16)
    found = likelihoods(model, WORDS).log_probabilities
    np.testing.assert_allclose(found, [by_whole_logits(model, text, {}) for text in WORDS], rtol=0.02, atol=0.02)


def test_a_head_run_alone_is_told_from_the_networks_own():
    with mutant(
        language_head, "network(input_ids=unread, use_cache=False).logits", "network.lm_head(states[None])"
    ) as changed:
        assert changed.has_separable_head(family("llama").network)
        assert not any(changed.has_separable_head(family(name).network) for name in ("gemma2", "cohere", "granite"))


def test_a_forward_of_the_instance_itself_comes_back():
    module = torch.nn.Linear(2, 2)
    module.forward = own = lambda states: states
    with language_head.forward_replaced(module, lambda states: -states):
        assert module(torch.ones(1)) == -1
    assert module.forward is own
