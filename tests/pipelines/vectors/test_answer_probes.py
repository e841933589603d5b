"""Probes of answers: a signal that is known is found, none is found where there is none, and both are told."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.behaviours.answers import AnswerSet, PromptedAnswer
from pipelines.vectors import answer_probes
from pipelines.vectors.answer_probes import WINDOW, AnswerProbes, answer_probe
from pipelines.vectors.methods import FittedDirection, FittedTexts
from pipelines.vectors.responses import without_instructions
from registry.errors import InvalidInput
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.mutants import mutant
from tests.registry.test_vectors import lineage

WORDS = ("the", "city", "of", "is", "in", "you", "are", "a")
PAIRS = [f"{first} {second}" for first in WORDS for second in WORDS]


@pytest.fixture(scope="module")
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


@pytest.fixture(autouse=True)
def prose(monkeypatch):
    """Ordinary prose in words that the model knows."""
    texts = tuple(f"{first} is in {second}" for first in PAIRS[:20] for second in ("Paris", "the city"))
    monkeypatch.setattr(answer_probes, "background_prose", lambda: texts)


def answers(good, bad, prompts=PAIRS):
    kinds = (tuple(PromptedAnswer(prompt, word) for prompt in prompts) for word in (good, bad))
    return AnswerSet("toxicity", "test", *kinds)


def test_a_known_signal_is_read_and_beats_its_controls(model):
    probe = answer_probe(model, answers(" kind kind kind is", " cruel cruel cruel is"), 1)
    quality = probe.quality
    assert quality.at_end > 0.99 and 0.9 < quality.auroc_low < quality.auroc
    assert (quality.n_answers, quality.n_prompts, quality.n_prose) == (128, 64, 40)
    assert quality.works and quality.shuffled < quality.auroc_low and quality.words == 1.0
    # No trustworthy answer is read below what one in a hundred ordinary tokens is, and most of the others are.
    assert quality.caught > 0.5 and quality.caught_wrongly == 0.0 and 0 < quality.stop_below < 1
    registered = probe.with_lineage("toxicity", lineage())
    assert (registered.window, registered.layer, registered.quality) == (WINDOW, 1, quality)


def test_where_there_is_no_signal_none_is_claimed(model):
    rng = np.random.default_rng(0)
    drawn = [" ".join(["", *rng.choice(WORDS, 4)]) for _ in range(128)]
    good = tuple(PromptedAnswer(*both) for both in zip(PAIRS, drawn[:64], strict=True))
    bad = tuple(PromptedAnswer(*both) for both in zip(PAIRS, drawn[64:], strict=True))
    quality = answer_probe(model, AnswerSet("toxicity", "test", good, bad), 1).quality
    assert quality.auroc_low < 0.5 < quality.auroc_high and not quality.works


def test_prompts_that_were_seen_do_not_count(model):
    """Answers that only their prompts decide, by lot: to a probe that saw the prompt they are no secret."""
    lots = np.random.default_rng(0).permutation(PAIRS)
    good, bad = (tuple(PromptedAnswer(str(prompt), " is in the") for prompt in lots[start::2]) for start in (0, 1))
    given = AnswerSet("toxicity", "test", good * 2, bad * 2)
    held_out = answer_probe(model, given, 1).quality.auroc
    with mutant(answer_probes, "np.unique(prompts, return_inverse=True)", "None, np.arange(len(prompts))") as changed:
        changed.background_prose = answer_probes.background_prose
        assert changed.answer_probe(model, given, 1).quality.auroc > held_out + 0.05


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("folds[readings.answers] != fold for _ in given", "folds[readings.answers] >= 0 for _ in given"),
        ("kind * N_FOLDS + of_fold", "kind * N_FOLDS"),
    ],
)
def test_a_probe_that_saw_the_answers_looks_better(model, passage, replacement):
    rng = np.random.default_rng(1)
    drawn = [" ".join(["", *rng.choice(WORDS, 6)]) for _ in range(64)]
    good = tuple(PromptedAnswer(*both) for both in zip(PAIRS[:32], drawn[:32], strict=True))
    bad = tuple(PromptedAnswer(*both) for both in zip(PAIRS[:32], drawn[32:], strict=True))
    given = AnswerSet("toxicity", "test", good, bad)
    with mutant(answer_probes, passage, replacement) as changed:
        changed.background_prose = answer_probes.background_prose
        assert changed.answer_probe(model, given, 1).quality.auroc > answer_probe(model, given, 1).quality.auroc + 0.03


def fitted(monitored, digest="ab", layer=1):
    texts = FittedTexts("test", digest, 128, 1.0, monitored=monitored)
    return {layer: FittedDirection("response-mean", 0, np.ones(16, np.float32) / 4, 1.0, 0.0, texts)}


def test_a_probe_is_fitted_once_for_all_methods(model, monkeypatch):
    given, probes = answers(" kind is", " cruel is"), AnswerProbes(model)
    first = probes.of(fitted(given))
    monkeypatch.setattr(answer_probes, "answer_probe", lambda *_: pytest.fail("fitted again"))
    assert first is not None and probes.of(fitted(given)) is first
    statements = {1: replace(fitted(given)[1], texts=None)}
    assert probes.of(statements) is None and probes.notes == []


def test_too_few_prompts_leave_a_vector_without_a_probe(model):
    one = tuple(PromptedAnswer("the city", f" {word} is") for word in WORDS * 3)
    given = AnswerSet("toxicity", "file:own.csv", one, one)
    with pytest.raises(InvalidInput, match="to 1 prompt, and 5 are needed"):
        answer_probe(model, given, 1)
    probes = AnswerProbes(model)
    assert probes.of(fitted(given)) is None and probes.of(fitted(given)) is None
    (note,) = probes.notes
    assert note == (
        "No probe of file:own.csv for toxicity: answers of several tokens are given to 1 prompt, and 5 are needed"
    )


def test_answers_of_one_token_are_never_read(model):
    with pytest.raises(InvalidInput, match="to 0 prompts, and 5 are needed"):
        answer_probe(model, answers(" kind", " cruel"), 1)
    longer = answers(" kind is", " cruel is", PAIRS[:40])
    single = answers(" kind", " cruel", PAIRS[40:])
    both = AnswerSet(
        "toxicity",
        "test",
        single.trustworthy + longer.trustworthy,
        longer.untrustworthy + single.untrustworthy,
    )
    quality = answer_probe(model, both, 1).quality
    assert (quality.n_answers, quality.n_prompts) == (80, 40) and quality.auroc > 0.9


def test_instructions_are_not_read(model):
    told = answers(" kind is", " cruel is", [f"Go on kindly.\n{prompt}" for prompt in PAIRS])
    assert {answer.prompt for answer in without_instructions(told).trustworthy} == set(PAIRS)
    assert [answer.text for answer in without_instructions(told).untrustworthy] == [" cruel is"] * 64
