import os
import resource
import signal

import numpy as np
import pytest
import torch

from pipelines.model_io.activations import extract, extract_answers, unit_file
from registry.errors import InvalidInput, Mismatch, Unavailable
from serving.model.language_model import load
from serving.model.residual_stream import recording
from serving.model.sources import find_series

TEXTS = ["the city of Paris is in France", "you are kind", "a letter", "Peru is in the city of the letter", "you"]


@pytest.fixture(scope="module")
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def alone(model, text, layer):
    """The hidden states of one text by Hugging Face's own route; ``layer`` may not be the last."""
    tokens = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        states = model.network(input_ids=tokens, output_hidden_states=True).hidden_states
    return states[layer + 1][0].numpy()


def test_a_batch_gives_each_text_what_it_gets_alone(model):
    activations = extract(model, TEXTS, tokens_per_batch=24)
    assert activations.hidden_states.shape == (3, 5, 16)
    for row, text in enumerate(TEXTS):
        for layer in (0, 1):
            np.testing.assert_allclose(activations.layer(layer)[row], alone(model, text, layer)[-1], atol=1e-5)


def test_mean_pooling_is_the_mean_over_real_tokens(model):
    activations = extract(model, TEXTS, pooling="mean")
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(activations.layer(1)[row], alone(model, text, 1).mean(axis=0), atol=1e-5)


def test_a_file_holds_the_same_numbers(model, cache):
    with unit_file("kept", keep=True) as file:
        mapped = extract(model, TEXTS, file=file)
    np.testing.assert_array_equal(mapped.hidden_states, extract(model, TEXTS).hidden_states)
    np.testing.assert_array_equal(np.load(cache / "activations" / "kept.npy"), mapped.hidden_states)
    assert list((cache / "scratch").iterdir()) == []


def test_a_file_that_is_not_kept_has_no_name(model, cache):
    with unit_file("unit", keep=False) as file:
        mapped = extract(model, TEXTS, file=file)
        assert os.fstat(file.fileno()).st_blocks * 512 >= mapped.hidden_states.nbytes
        assert [path for path in cache.rglob("*") if path.is_file()] == []
    np.testing.assert_array_equal(mapped.hidden_states, extract(model, TEXTS).hidden_states)


def test_some_layers_only(model):
    activations = extract(model, TEXTS, layers=(0, 2))
    np.testing.assert_array_equal(activations.layer(2), extract(model, TEXTS).layer(2))
    with pytest.raises(Mismatch, match="layer 1 was not read; layers read: 0, 2"):
        activations.layer(1)


def test_progress_counts_every_statement_once(model):
    seen = []
    extract(model, TEXTS, tokens_per_batch=10, on_progress=seen.append)
    assert sum(seen) == len(TEXTS)
    assert len(seen) > 1


def test_a_text_beyond_the_context_is_refused(model):
    with pytest.raises(InvalidInput, match="71 tokens and mini reads at most 64"):
        extract(model, ["you " * 70])


def test_nan_is_refused_and_its_place_is_named(series_directory):
    broken = load(find_series(str(series_directory)).checkpoints[0])
    broken.network.base_model.layers[1].mlp.down_proj.weight.data[:] = float("nan")
    with pytest.raises(Mismatch, match="NaN or infinity at layer 1"):
        extract(broken, TEXTS)


def test_nan_in_the_last_batch_is_refused_by_its_row(series_directory):
    """A batch is written when the next one has run, and the last one at the end."""
    broken = load(find_series(str(series_directory)).checkpoints[0])
    embedding = broken.network.get_input_embeddings().weight
    embedding.data[broken.tokenizer("you")["input_ids"][-1]] = float("nan")
    seen = []
    with pytest.raises(Mismatch, match="NaN or infinity at layer 0 for statement 4 "):
        extract(
            broken,
            ["a letter", "the letter", "the city", "Peru is in", "you"],
            tokens_per_batch=1,
            on_progress=seen.append,
        )
    assert len(seen) == 4


def test_a_disk_too_small_is_refused_before_work_begins(model, cache):
    seen = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with unit_file("unit", keep=False) as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
            with pytest.raises(Unavailable, match=r"activations need 0\.0 MB in .* free some space"):
                extract(model, TEXTS, file=file, on_progress=seen.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert seen == []


def test_an_unknown_pooling_is_refused(model):
    with pytest.raises(InvalidInput, match="last, mean"):
        extract(model, TEXTS, pooling="max")


def test_answers_are_read_over_their_own_tokens(model):
    prompts, answers = ["the city of", "you are", "a letter"], [" Paris is in France", " kind", " of the city"]
    found = extract_answers(model, prompts, answers, layers=[0, 2], tokens_per_batch=8)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        start = len(model.tokenizer(prompt)["input_ids"])
        tokens = torch.tensor([model.tokenizer(prompt + answer)["input_ids"]])
        states = {}
        with torch.inference_mode(), recording(model.network, [0, 2], states.__setitem__):
            model.network(tokens)
        for layer in (0, 2):
            expected = states[layer][0, start:].mean(dim=0)
            np.testing.assert_allclose(found.layer(layer)[row], expected, atol=1e-5)


def test_an_answer_without_tokens_is_refused(model):
    with pytest.raises(InvalidInput, match="the answer '' has no tokens of its own"):
        extract_answers(model, ["the city"], [""], layers=[0])
