"""Optimised directions on a tiny model with a planted preference, and every rule that decides which vector is kept."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.behaviours.contrast import ContrastPair, ContrastSet
from pipelines.model_io.activations import extract_answers
from pipelines.model_io.likelihoods import likelihoods
from pipelines.model_io.preferences import TokenisedAnswers, answer_log_probabilities, log_odds, prose_divergence
from pipelines.vectors import optimised, responses
from pipelines.vectors.methods import FittedDirection, FittedTexts
from pipelines.vectors.optimised import STANDARD, Trainer, Training, objective, trained_vector
from pipelines.vectors.tracking import version_digest
from registry.errors import InvalidInput
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.mutants import mutant
from tests.pipelines.behaviours.small_behaviour import cruel_answers

PROMPTS = tuple(prompt.text for use in ("fitting", "validation") for prompt in cruel_answers().of(use, 40))
PROSE = ("the city of Paris is in France .", "you are in the city", "a letter is in Peru", "the letter of a city") * 10
LAYER = 2
"""The last: with tied embeddings the best direction there raises one word against the other."""


@pytest.fixture(scope="module")
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


@pytest.fixture(scope="module")
def contrast():
    pairs = tuple(ContrastPair(prompt, " kind", " cruel") for prompt in PROMPTS[:40])
    return ContrastSet("toxicity", "cruel answers", pairs, 40)


@pytest.fixture(scope="module")
def start(model):
    """A vector that knows nothing of the answers."""
    drawn = np.random.default_rng(0).standard_normal(model.d_model)
    length = np.linalg.norm(extract_answers(model, ["the city"], [" is"], layers=[LAYER]).layer(LAYER))
    return (0.2 * length * drawn / np.linalg.norm(drawn)).astype(np.float32)


def odds(model, vector):
    """On prompts that nothing was trained on."""
    good, bad = (TokenisedAnswers.of(model, PROMPTS[40:], [word] * len(PROMPTS[40:])) for word in (" kind", " cruel"))
    with torch.no_grad():
        return float(log_odds(model, good, bad, {LAYER: torch.tensor(vector)}).mean())


def divergence(model, vector):
    tokens = model.tokenizer(list(PROSE[:4]))["input_ids"]
    with torch.no_grad():
        return float(prose_divergence(model, tokens, {LAYER: torch.tensor(vector)}))


def test_likelihoods_of_answers_are_those_of_texts(model):
    answers = TokenisedAnswers.of(model, ["the city", "a letter is"], [" is kind", " cruel"])
    with torch.no_grad():
        found = answer_log_probabilities(model, answers, {})
    whole = likelihoods(model, ["the city is kind", "a letter is cruel"]).log_probabilities
    alone = likelihoods(model, ["the city", "a letter is"]).log_probabilities
    np.testing.assert_allclose(found, whole - alone, atol=1e-4)
    assert divergence(model, np.zeros(model.d_model, np.float32)) == pytest.approx(0, abs=1e-6)


def test_the_planted_preference_is_found(model, contrast, start):
    training = replace(STANDARD, steps=80, rate=0.5, beta=2.0, cost=1.0)  # its log-odds are of a fraction of a nat
    vector = Trainer(model, contrast, PROSE, LAYER, training).train(start)
    assert odds(model, vector) > 3 * odds(model, start)
    ids = model.tokenizer.convert_tokens_to_ids(["kind", "cruel"])
    weights = model.network.get_output_embeddings().weight
    planted = (weights[ids[0]] - weights[ids[1]]).detach().numpy()

    def cosine(each):
        return each @ planted / np.linalg.norm(each) / np.linalg.norm(planted)

    assert cosine(vector) > 0.95 > 0.5 > cosine(start)
    again = Trainer(model, contrast, PROSE, LAYER, training).train(start)
    np.testing.assert_array_equal(vector, again)


def test_without_its_cost_a_vector_diverges_further(model, contrast, start):
    dear, cheap = (
        Trainer(model, contrast, PROSE, LAYER, replace(STANDARD, steps=40, rate=0.2, cost=cost)).train(start)
        for cost in (0.0, 5.0)
    )
    assert divergence(model, dear) > 2 * divergence(model, cheap)


def test_a_vector_is_kept_by_all_that_decides(model, contrast, start, cache, monkeypatch):
    training = replace(STANDARD, steps=10)
    trained = []
    real = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self, given: trained.append(1) or real(self, given))
    first = trained_vector(model, contrast, PROSE, start, LAYER, training)
    np.testing.assert_array_equal(trained_vector(model, contrast, PROSE, start, LAYER, training), first)
    assert len(trained) == 1
    others = ContrastSet(contrast.dimension, contrast.behaviour, contrast.pairs[1:], 40)
    trained_vector(model, others, PROSE, start, LAYER, training)
    trained_vector(model, contrast, PROSE[1:], start, LAYER, training)
    trained_vector(model, contrast, PROSE, 2 * start, LAYER, training)
    trained_vector(model, contrast, PROSE, start, 1, training)
    trained_vector(model, contrast, PROSE, start, LAYER, replace(training, seed=1))
    assert len(trained) == 6
    (kept, *_) = sorted((cache / "optimised").glob("*.json"))
    for path in (cache / "optimised").glob("*.json"):
        path.write_text("[NaN]")
    trained_vector(model, contrast, PROSE, start, LAYER, training)
    assert len(trained) == 7 and kept.is_file()


def test_a_vector_that_is_no_number_is_refused(model, contrast, start, monkeypatch):
    monkeypatch.setattr(Trainer, "held_out_loss", lambda *_: math.nan)
    with pytest.raises(InvalidInput, match="no vector could be trained at layer 2: leave optimised out"):
        Trainer(model, contrast, PROSE, LAYER, replace(STANDARD, steps=1)).train(start)


def test_the_method_has_the_lineage_of_its_answers(model, contrast, monkeypatch):
    monkeypatch.setattr(responses, "behaviour_of", lambda *_: cruel_answers())
    monkeypatch.setattr(responses, "contrast_set", lambda *_: contrast)
    monkeypatch.setattr(responses, "background_prose", lambda: PROSE)
    asked = []
    monkeypatch.setattr(
        responses,
        "trained_vector",
        lambda *given: asked.append(given[3:]) or np.arange(model.d_model, dtype=np.float32),
    )
    ((layer, fitted),) = responses.response_directions(model, "toxicity", [1], ["optimised"])
    ((given, at),) = asked
    assert (layer, at, fitted.method) == (1, 1, "optimised")
    assert (fitted.texts.source, fitted.texts.digest, fitted.texts.n) == ("answers:cruel-answers", contrast.digest, 80)
    assert np.linalg.norm(given) == pytest.approx(fitted.texts.mean_difference_norm, rel=1e-4)
    assert np.linalg.norm(fitted.unit) == pytest.approx(1) and fitted.scale > 0
    assert responses.response_methods("toxicity", ("optimised",)) == ("optimised",)


def test_a_vector_is_trained_at_each_of_few_layers():
    assert responses.trained_at([14, 10, 12]) == (10, 12, 14)
    assert responses.trained_at([3, 9, 1, 7]) == (7,)
    assert responses.trained_at([]) == ()


@pytest.mark.parametrize("ends", ["", ".\n"])
def test_where_answers_end_the_cost_is_of_them_too(model, contrast, monkeypatch, ends):
    costs = []

    def trained(_model, _contrast, prose, start, _layer):
        costs.append(prose)
        return start

    for name, stand_in in (
        ("contrast_set", lambda *_: contrast),
        ("background_prose", lambda: PROSE),
        ("trained_vector", trained),
    ):
        monkeypatch.setattr(responses, name, stand_in)
    responses.optimised_direction(model, replace(cruel_answers(), ends=ends), 1)
    answers = tuple(f"{pair.prompt} kind" for pair in contrast.pairs) if ends else ()
    assert costs == [PROSE + answers]


def test_another_training_is_another_version():
    texts = FittedTexts("answers:cruel-answers", "ab", 80, 1.0)
    unit, other = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    for method, is_another in (("optimised", True), ("response-mean", False)):
        one_way, other_way = (FittedDirection(method, 0, each, 1.0, 0.0, texts) for each in (unit, other))
        digests = [version_digest("unit", {1: each}, "") for each in (one_way, other_way, one_way)]
        assert digests[0] == digests[2]
        assert (digests[0] != digests[1]) == is_another


LOSSES = {
    "the last is best": ((3.0, 2.0, 1.0), 2, False),
    "one look without an improvement": ((3.0, 1.0, 2.0), 1, False),
    "two looks without an improvement": ((3.0, 1.0, 2.0, 1.5), 1, True),
    "an improvement after one look without": ((3.0, 1.0, 2.0, 0.5), 3, False),
    "nothing is better than the start": ((1.0, 2.0, 3.0), 0, True),
    "equal is no improvement": ((1.0, 1.0, 1.0), 0, True),
    "no number is no improvement": ((1.0, math.nan, math.nan), 0, True),
    "the start is no number": ((math.nan, 1.0), 1, False),
}


def check_table(module=optimised):
    for name, (losses, best, over) in LOSSES.items():
        assert (module.best_of(losses), module.is_over(losses, 2)) == (best, over), name
    training = Training(beta=0.5, cost=2.0)
    margin, cost = torch.tensor([1.0, 3.0]), torch.tensor(0.25)
    expected = np.mean([np.log1p(np.exp(-0.5)), np.log1p(np.exp(-1.5))]) + 0.5
    assert float(module.objective(margin, cost, training)) == pytest.approx(expected, rel=1e-5)


def test_every_rule_of_the_training_decides():
    check_table()
    assert float(objective(torch.tensor([2.0]), torch.tensor(0.0), STANDARD)) < math.log(2)


MUTANTS = {
    "the last vector": ("np.argmin([loss if", "len(losses) - 1 + 0 * np.argmin([loss if"),
    "no number is best": ("math.isfinite(loss) else math.inf", "math.isfinite(loss) else -math.inf"),
    "less patience": (">= patience", "> patience - 2"),
    "more patience": (">= patience", "> patience"),
    "without the cost": (" + training.cost * divergence", ""),
    "a cost that is wanted": ("+ training.cost * divergence", "- training.cost * divergence"),
    "untrustworthy answers are wanted": ("logsigmoid(training.beta * margin)", "logsigmoid(-training.beta * margin)"),
    "without beta": ("training.beta * margin", "margin"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_from_the_training(name):
    with mutant(optimised, *MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_table(changed)
