"""Candidates, and what they are fitted on."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.calibrate.candidates import Candidate, fitted_candidates, require_candidates, with_champion
from pipelines.estimators.mass_mean import fit_mass_mean
from pipelines.model_io.activations import extract
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.protocol import FittingProtocol
from pipelines.vectors.methods import FittingSet, fit_directions, fitting_rows
from registry.errors import InvalidInput
from serving.model.language_model import load
from serving.model.sources import find_series

WORDS = ("the", "city", "of", "is", "in", "you", "are", "a", "letter")


@pytest.fixture(scope="module")
def statements():
    texts = [f"{first} {second} {end}" for first in WORDS for second in WORDS for end in ("kind", "cruel")]
    n = len(texts)
    return LabelledStatements("toxicity", tuple(texts), np.arange(n) % 2 == 0, np.arange(n) // 2, "test")


def test_directions_are_fitted_on_the_fitting_rows_alone(statements, series_directory, monkeypatch):
    model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
    prose = ("the city of Paris is in France", "a letter is in the city")
    monkeypatch.setattr("pipelines.calibrate.candidates.background_prose", lambda: prose)
    settings = FittingProtocol()
    (candidate,) = fitted_candidates(model, SimpleNamespace(), statements, [(1,)], ["logistic"], settings)
    features, background = (extract(model, texts, layers=[1]).layer(1) for texts in (statements.texts, prose))

    def fitted_on(rows):
        fitting = FittingSet(features[rows], statements.labels[rows], statements.groups[rows], background)
        direction = next(fit_directions(fitting, ["logistic"], 0))
        return direction.scale * direction.unit

    np.testing.assert_allclose(candidate.unit_offsets[1], fitted_on(fitting_rows(statements, settings)), atol=1e-5)
    assert not np.allclose(candidate.unit_offsets[1], fitted_on(np.ones(statements.n, bool)), atol=1e-5)


def test_a_range_is_one_candidate_of_the_single_ones(statements, series_directory, monkeypatch):
    model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
    monkeypatch.setattr("pipelines.calibrate.candidates.background_prose", lambda: ("the city of Paris is in France",))
    places, methods = [(0,), (0, 1, 2), (1,), (2,)], ["mass-mean", "lda"]
    unit = measured(model, statements)
    found = list(fitted_candidates(model, unit, statements, places, methods, FittingProtocol()))
    assert [(each.label, each.layers) for each in found] == [(method, place) for method in methods for place in places]
    for label in methods:
        single = {each.layers[0]: each for each in found if each.label == label and len(each.layers) == 1}
        (several,) = (each for each in found if each.label == label and len(each.layers) > 1)
        for layer, offset in several.unit_offsets.items():
            np.testing.assert_array_equal(offset, single[layer].unit_offsets[layer])
        assert set(several.fitted) == {0, 1, 2} and {each.method for each in several.fitted.values()} == {label}
    assert [each.fitted is None for each in found if each.label == "mass-mean"] == [True, False, True, True]
    offsets = found[1].offsets(-1.5)
    assert {layer: offset.tolist() for layer, offset in offsets.items()} == {
        layer: pytest.approx((-1.5 * offset).tolist()) for layer, offset in found[1].unit_offsets.items()
    }


def measured(model, statements):
    """The unit of all layers, as far as candidates look at it."""
    activations, rows = extract(model, statements.texts), fitting_rows(statements, FittingProtocol())

    def direction(layer):
        return SimpleNamespace(mass_mean=fit_mass_mean(activations.layer(layer)[rows], statements.labels[rows]))

    return SimpleNamespace(direction=direction)


def candidate(label, layer=1, unit=(1.0, 0.0), scale=2.0, registered=None):
    layers = (layer,) if isinstance(layer, int) else layer
    return Candidate(label, {each: scale * np.array(unit, np.float32) for each in layers}, registered=registered)


def test_the_running_champion_contends_once():
    fitted = [candidate("mass-mean"), candidate("lda", layer=2)]
    champion = candidate("steer.x.toxicity/1", registered="version 1")
    offered, running = with_champion(fitted, champion)
    assert [each.label for each in offered] == ["mass-mean", "lda"]
    assert running is offered[0]
    assert running.registered == "version 1"
    others = (candidate("c", layer=3), candidate("c", unit=(0.0, 1.0)), candidate("c", scale=3.0))
    for other in (*others, candidate("c", layer=(1, 2))):
        offered, running = with_champion(fitted, other)
        assert offered == [*fitted, other]
        assert running is other


@pytest.mark.parametrize(
    ("champion_has", "candidate_has", "registered"),
    [(False, True, None), (False, False, "version 1"), (True, True, "version 1"), (True, False, "version 1")],
)
def test_a_champion_without_a_probe_is_made_anew_with_one(champion_has, candidate_has, registered):
    champion = replace(candidate("steer.x.toxicity/1", registered="version 1"), has_probe=champion_has)
    fitted = replace(candidate("response-mean"), has_probe=candidate_has)
    offered, running = with_champion([fitted], champion)
    assert offered == [running]
    assert (running.label, running.registered) == ("response-mean", registered)


def test_nothing_to_calibrate_is_refused():
    require_candidates({"toxicity": [candidate("mass-mean")]})
    with pytest.raises(InvalidInput, match="leave nothing to calibrate for privacy"):
        require_candidates({"toxicity": [candidate("mass-mean")], "privacy": []})
