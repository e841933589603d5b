import numpy as np
import pytest
import torch

from pipelines.calibrate import search
from pipelines.calibrate.search import (
    Candidate,
    Effect,
    Texts,
    calibrate,
    recommend,
    safe_range,
    settings_to_measure,
)
from pipelines.estimators.estimate import Estimate
from serving.model.language_model import load
from serving.model.sources import find_series


def point(strength, ratio, low=0.1, value=None, spread=0.005):
    value = low + 0.1 if value is None else value
    perplexity = Estimate(ratio, ratio - spread, ratio + spread, 60)
    return Effect("mass-mean", 1, strength, perplexity, Estimate(value, low, value + 0.1, 50))


def test_the_safe_range_ends_at_the_first_strength_beyond_the_cap():
    curve = [point(-4, 1.2), point(-2, 1.5), point(-1, 1.1), point(0, 1), point(2, 1.3), point(4, 1.35), point(8, 1.0)]
    assert safe_range(curve) == (-1, 2)


def test_where_the_weakest_strength_is_beyond_the_cap_only_zero_is_safe():
    assert safe_range([point(-1, 2.0), point(0, 1), point(1, 2.0)]) == (0, 0)


def test_recommended_is_the_largest_shift_that_is_certain_and_cheap():
    curve = [point(1, 1.02, value=0.3), point(2, 1.09, value=0.6), point(3, 1.12, value=0.9)]
    assert recommend([*curve, point(2.5, 1.05, low=-0.1, value=0.8)]) == 2
    assert recommend([point(-2, 1.0, value=5.0), point(2, 1.0, low=-0.01)]) == 0


def test_a_cost_that_may_be_beyond_a_tenth_is_not_recommended():
    curve = [point(1, 1.02, value=0.3), point(2, 1.09, value=0.6, spread=0.02)]
    assert recommend(curve) == 1
    assert curve[1].is_cheap
    assert not curve[1].is_surely_cheap


@pytest.fixture
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def texts(model):
    places = ("the city", "a letter", "Paris", "France", "a letter of the city", "you", "the letter", "a city")
    openings = [f"{place} is" for place in places]
    statements = [f"{opening} {word}" for opening in openings for word in ("kind", "cruel")]
    labels = np.tile([True, False], len(openings))
    return Texts.measured(
        model, statements, labels, np.arange(len(labels)) // 2, ["the city of Paris is in France ."] * 3
    )


def towards(model, word, other, scale, layer=2, label="mass-mean"):
    """At the last layer of a model with tied embeddings this direction raises ``word`` against ``other``."""
    ids = model.tokenizer.convert_tokens_to_ids([word, other])
    difference = (
        model.network.get_input_embeddings().weight[ids[0]] - model.network.get_input_embeddings().weight[ids[1]]
    )
    return Candidate(label, layer, (difference / difference.norm()).numpy(), scale)


def test_a_direction_that_must_work_is_chosen_over_its_opposite_and_beats_random_ones(model):
    good = towards(model, "kind", "cruel", 0.02)
    bad = towards(model, "cruel", "kind", 0.02, layer=1)
    measured = []
    found = calibrate(model, [bad, good], texts(model), texts(model), on_setting=lambda: measured.append(1))
    assert found.layer == 2
    assert found.low < 0 < found.recommended <= found.high
    assert found.works
    assert found.beats_random
    assert [one.strength for one in found.curve] == sorted(one.strength for one in found.curve)
    shifts = [one.shift.value for one in found.curve]
    assert shifts == sorted(shifts)
    assert len(measured) <= settings_to_measure([bad, good])


def test_a_direction_that_does_the_opposite_is_recommended_at_no_strength(model):
    found = calibrate(model, [towards(model, "cruel", "kind", 0.02)], texts(model), texts(model))
    assert found.recommended == 0
    assert not found.works
    assert not found.beats_random


def test_offsets_have_the_length_of_the_strength_in_standard_deviations(model, monkeypatch):

    seen = []
    real = search.likelihoods

    def spy(model, given, offsets=None, **options):
        seen.extend((layer, float(torch.linalg.norm(offset))) for layer, offset in (offsets or {}).items())
        return real(model, given, offsets, **options)

    monkeypatch.setattr(search, "likelihoods", spy)
    calibrate(model, [towards(model, "kind", "cruel", 0.5, layer=0)], texts(model), texts(model))
    lengths = {round(length, 3) for _, length in seen}
    assert lengths == {round(0.5 * abs(strength), 3) for strength in (*search.CURVE, 2.0)}


def test_of_several_methods_the_best_is_chosen_and_the_others_are_told_on_test(model):
    good, bad = towards(model, "kind", "cruel", 0.02, label="lda"), towards(model, "cruel", "kind", 0.02)
    found = calibrate(model, [bad, good], texts(model), texts(model))
    assert found.candidate is good
    (other,) = found.others
    assert other.label == "mass-mean"
    assert other.shift.value < 0 < found.tested.shift.value
