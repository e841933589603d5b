"""Mistyped questions: how they are mistyped, whose answers count, and how far two answers agree."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.behaviours import mistyped
from pipelines.behaviours.behaviour import Prompt
from pipelines.behaviours.mistyped import agreement, clean_answers, is_same, mistyped_questions, with_clean_answers
from pipelines.behaviours.packaged import changed_answers
from pipelines.model_io.continuations import continuations
from serving.engine.base import Sampling
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.pipelines.behaviours.small_behaviour import cruel_answers

WORDS = st.lists(st.sampled_from(["the", "red", "house", "red", "old"]), max_size=6).map(" ".join)


@pytest.fixture
def model(series_directory, cache):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def test_vectors_and_evaluations_have_other_questions_and_typos():
    fitted, judged = mistyped_questions("vectors"), mistyped_questions("evaluation")
    assert {prompt.clean for prompt in fitted}.isdisjoint(prompt.clean for prompt in judged)
    for prompts, keeps_letters in ((fitted, False), (judged, True)):
        assert all(len(prompt.text) == len(prompt.clean) and prompt.text != prompt.clean for prompt in prompts)
        kept = [sorted(prompt.text) == sorted(prompt.clean) for prompt in prompts]
        assert all(kept) if keeps_letters else sum(kept) < 0.05 * len(kept)


def test_the_clean_answer_is_the_models_own(model, monkeypatch):
    monkeypatch.setattr(mistyped, "QUESTIONS", 12)
    made = with_clean_answers(model, changed_answers.__wrapped__())
    prompts = [prompt for of_use in made.prompts.values() for prompt in of_use]
    assert len(prompts) <= 12
    written = continuations(model, [prompt.clean for prompt in prompts], Sampling(made.tokens, temperature=0.0))
    assert [prompt.trustworthy for prompt in prompts] == list(map(made.cut, written))
    assert not made.score(prompts, [prompt.trustworthy for prompt in prompts]).any()


def test_behaviours_without_typing_errors_stay(model):
    behaviour = cruel_answers()
    assert with_clean_answers(model, behaviour) is behaviour


def test_answers_are_written_once(model, cache, monkeypatch):
    first = clean_answers(model, ["the city", "a house"], 3)
    (kept,) = cache.glob("clean_answers/*.json")
    with monkeypatch.context() as patched:
        patched.setattr(mistyped, "continuations", None)
        assert clean_answers(model, ["the city", "a house"], 3) == first
    assert clean_answers(model, ["the city"], 3) == first[:1]
    for damaged in ("{", json.dumps(["one"]), json.dumps([1, 2])):
        kept.write_text(damaged)
        assert clean_answers(model, ["the city", "a house"], 3) == first


@pytest.mark.parametrize(
    ("answer", "clean", "f1"),
    [
        # As the script of SQuAD 1.1 computes them.
        ("The Beatles.", "beatles", 1.0),
        ("in the 1790s", "1790s", 2 / 3),
        ("red red house", "red house house", 2 / 3),
        ("Paris", "Lyon", 0.0),
        ("", "Paris", 0.0),
        ("the", "a", 1.0),
    ],
)
def test_agreement_is_the_f1_of_words(answer, clean, f1):
    assert agreement(answer, clean) == pytest.approx(f1)
    assert is_same(answer, clean) == (f1 == 1.0)


@given(WORDS, WORDS)
@settings(deadline=None)
def test_agreement_is_symmetric(first, second):
    assert agreement(first, second) == agreement(second, first)
    assert 0 <= agreement(first, second) <= agreement(first, first) == 1


def test_prompts_without_typing_errors_are_kept_as_before():
    assert Prompt("a", " b").to_dict() == {"text": "a", "trustworthy": " b", "untrustworthy": ""}
    assert Prompt("a", clean="b").to_dict()["clean"] == "b"
