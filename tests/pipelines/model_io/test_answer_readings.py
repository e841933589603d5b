"""Readings of answers, against the plain model one text at a time."""

import numpy as np
import pytest
import torch

import pipelines.model_io.answer_readings as module
from pipelines.model_io.answer_readings import read_answers, spread
from registry.errors import InvalidInput
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.mutants import mutant

PROMPTS = ["the city of", "you", "the city of", "a letter is in the"]
ANSWERS = [" Paris is in France", " are kind", " Peru", " city of Paris is in the city of the letter"]


@pytest.fixture(scope="module")
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def expected(model, prompt, answer, window):
    """At each token of the answer but the last, the mean over the latest states of such tokens."""
    start = len(model.tokenizer(prompt)["input_ids"])
    tokens = torch.tensor([model.tokenizer(prompt + answer)["input_ids"]])
    with torch.inference_mode():
        states = model.network(input_ids=tokens, output_hidden_states=True).hidden_states[2][0].numpy()
    drawn_from = states[start:-1]
    ends = range(1, len(drawn_from) + 1)
    means = [drawn_from[max(0, end - window) : end].mean(axis=0) for end in ends]
    return np.stack(means) if means else np.empty((0, 16), np.float32)


def agree(of, model, window):
    read = of.read_answers(model, PROMPTS, ANSWERS, layer=1, window=window, most=100, tokens_per_batch=16)
    alone = [expected(model, *both, window) for both in zip(PROMPTS, ANSWERS, strict=True)]
    assert read.answers.tolist() == [number for number, found in enumerate(alone) for _ in found]
    np.testing.assert_allclose(read.states, np.concatenate(alone), atol=1e-5)
    np.testing.assert_array_equal(read.last, np.cumsum([len(found) for found in alone if len(found)]) - 1)
    values = np.arange(len(read.answers), 0.0, -1.0)
    assert read.lowest(values).tolist() == values[read.last].tolist()


@pytest.mark.parametrize("window", [1, 3, 50])
def test_readings_are_those_of_a_monitor(model, window):
    agree(module, model, window)


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("(start, len(sequence) - 1)", "(start - 1, len(sequence) - 1)"),
        ("(start, len(sequence) - 1)", "(start, len(sequence))"),
        ("np.maximum(ends - window, 0)", "np.zeros_like(ends)"),
        ("np.maximum(ends - window, 0)", "np.maximum(ends - window - 1, 0)"),
    ],
)
def test_other_readings_are_told_apart(model, passage, replacement):
    with mutant(module, passage, replacement) as changed, pytest.raises(AssertionError):
        agree(changed, model, 3)


def test_a_long_answer_is_read_at_places_spread_over_it(model):
    every = read_answers(model, PROMPTS, ANSWERS, layer=1, window=3, most=100)
    some = read_answers(model, PROMPTS, ANSWERS, layer=1, window=3, most=3)
    rows = [row for number in range(4) for row in np.flatnonzero(every.answers == number)[spread_of(every, number)]]
    np.testing.assert_array_equal(some.states, every.states[rows])
    assert spread(10, 4).tolist() == [0, 3, 6, 9] and spread(2, 4).tolist() == [0, 1] and spread(5, 1).tolist() == [0]


def spread_of(readings, number):
    return spread(int((readings.answers == number).sum()), 3)


def test_an_answer_without_tokens_is_refused(model):
    with pytest.raises(InvalidInput, match="the answer '' has no tokens of its own"):
        read_answers(model, ["you are"], [""], layer=1, window=1, most=9)
