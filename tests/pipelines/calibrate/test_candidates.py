"""Candidates, and what they are fitted on."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.calibrate.candidates import Candidate, fitted_candidates, require_candidates, with_champion
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
    (candidate,) = fitted_candidates(model, SimpleNamespace(), statements, [1], ["logistic"], settings)
    features, background = (extract(model, texts, layers=[1]).layer(1) for texts in (statements.texts, prose))

    def fitted_on(rows):
        fitting = FittingSet(features[rows], statements.labels[rows], statements.groups[rows], background)
        return next(fit_directions(fitting, ["logistic"], 0)).unit

    np.testing.assert_allclose(candidate.unit, fitted_on(fitting_rows(statements, settings)), atol=1e-6)
    assert not np.allclose(candidate.unit, fitted_on(np.ones(statements.n, bool)), atol=1e-6)


def candidate(label, layer=1, unit=(1.0, 0.0), scale=2.0, registered=None):
    return Candidate(label, layer, np.array(unit, np.float32), scale, registered=registered)


def test_the_running_champion_contends_once():
    fitted = [candidate("mass-mean"), candidate("lda", layer=2)]
    champion = candidate("steer.x.toxicity/1", registered="version 1")
    offered, running = with_champion(fitted, champion)
    assert [each.label for each in offered] == ["mass-mean", "lda"]
    assert running is offered[0]
    assert running.registered == "version 1"
    for other in (candidate("c", layer=3), candidate("c", unit=(0.0, 1.0)), candidate("c", scale=3.0)):
        offered, running = with_champion(fitted, other)
        assert offered == [*fitted, other]
        assert running is other


def test_nothing_to_calibrate_is_refused():
    require_candidates({"toxicity": [candidate("mass-mean")]})
    with pytest.raises(InvalidInput, match="leave nothing to calibrate for privacy"):
        require_candidates({"toxicity": [candidate("mass-mean")], "privacy": []})
