"""Directions read on answers, of a tiny model."""

import numpy as np
import pytest

from pipelines.behaviours.contrast import contrast_set
from pipelines.model_io.activations import extract
from pipelines.vectors import responses
from pipelines.vectors.responses import reads_responses, response_directions
from registry.errors import InvalidInput
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.pipelines.behaviours.small_behaviour import cruel_answers


def test_the_direction_is_the_mean_difference_over_answers(series_directory, cache, monkeypatch):
    model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
    monkeypatch.setattr(responses, "behaviour_of", lambda _: cruel_answers())
    contrast = contrast_set(model, cruel_answers())
    assert {(pair.trustworthy, pair.untrustworthy) for pair in contrast.pairs} == {(" kind", " cruel")}
    for layer, fitted in response_directions(model, "toxicity", [0, 2]):
        # An answer of one word is read at its last token.
        kind, cruel = (
            extract(model, [f"{pair.prompt} {word}" for pair in contrast.pairs], layers=[layer]).layer(layer)
            for word in ("kind", "cruel")
        )
        difference = (kind - cruel).mean(axis=0)
        np.testing.assert_allclose(fitted.unit, difference / np.linalg.norm(difference), atol=1e-5)
        projections = np.concatenate([kind, cruel]) @ fitted.unit
        assert fitted.scale == pytest.approx(projections.std(ddof=1), rel=1e-4)
        assert (fitted.method, fitted.is_control) == ("response-mean", False)
        assert (fitted.texts.source, fitted.texts.n) == ("answers:cruel-answers", 2 * len(contrast.pairs))
        assert fitted.texts.digest == contrast.digest


def test_dimensions_without_a_behaviour_are_left_to_other_methods():
    assert reads_responses("toxicity", ("mass-mean", "response-mean"))
    assert not reads_responses("toxicity", ("mass-mean",))
    assert not reads_responses("fairness", ("mass-mean", "response-mean"))
    with pytest.raises(InvalidInput, match="cannot be scored for fairness"):
        reads_responses("fairness", ("response-mean",))
