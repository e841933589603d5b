"""Examples of steering: the prompt whose answers differ most, in the sense of the dimension where it has a score."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.behaviours.behaviour import Behaviour, Prompt
from pipelines.export import examples
from pipelines.export.examples import TOKENS, example_of
from tests.mutants import mutant

PROMPTS = tuple(Prompt(f"prompt {number}") for number in range(4))
UNSTEERED = ("cruel words", "cruel words", "kind words", "kind words")


def score(_prompts, answers):
    return np.array([float("cruel" in answer) for answer in answers])


@pytest.fixture
def answering(monkeypatch):
    """Lets the steered answers be those given."""

    def answers(module, steered):
        behaviour = Behaviour("toxicity", "cruel answers", {}, score, tokens=8, ends=".")
        monkeypatch.setattr(module, "_prompts", lambda *_given: PROMPTS)
        monkeypatch.setattr(module, "_answers", lambda *_given: [UNSTEERED, steered])
        monkeypatch.setattr(module, "behaviour_of", lambda *_given: behaviour)

    return answers


def chosen(dimension, module=examples):
    example = module.example_of(None, SimpleNamespace(dimension=dimension), 2.0)
    return example and (example.prompt, example.unsteered, example.steered)


def test_an_answer_that_is_mended_is_shown(answering):
    answering(examples, ("cruel works", "kind words", "other words", "cruel words"))
    assert chosen("toxicity") == ("prompt 1", "cruel words", "kind words")


def test_without_a_score_the_earliest_difference_is_shown(answering):
    answering(examples, ("cruel works", "cruel words", "kind people", "sorry, no"))
    assert chosen("fairness") == ("prompt 3", "kind words", "sorry, no")


def test_equal_answers_are_no_example(answering):
    answering(examples, UNSTEERED)
    assert chosen("toxicity") is None
    assert chosen("fairness") is None


def test_an_example_says_of_how_many_it_was_chosen(answering):
    answering(examples, ("cruel works", "kind words", "kind words", "kind words"))
    example = example_of(None, SimpleNamespace(dimension="toxicity"), 2.0)
    assert (example.tried, example.strength, example.max_tokens, example.chat) == (4, 2.0, TOKENS, False)


def test_choosing_what_steering_spoils_would_be_noticed(answering):
    with mutant(examples, "2 * turned + (before - after)", "after - before") as wrong:
        answering(wrong, ("cruel words", "sour words", "kind words", "cruel words"))
        monkeyed = chosen("toxicity", wrong)
    answering(examples, ("cruel words", "sour words", "kind words", "cruel words"))
    assert chosen("toxicity") == ("prompt 1", "cruel words", "sour words") != monkeyed
