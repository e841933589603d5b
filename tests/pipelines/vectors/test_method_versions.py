"""Versions of methods: whatever changes the vector that a method makes of the same texts has to raise its version."""

import numpy as np
import pytest

from pipelines.behaviours.answers import AnswerSet, PromptedAnswer
from pipelines.vectors import methods, tracking
from pipelines.vectors.methods import METHODS, RESPONSE_METHODS, VERSIONS, FittedTexts, FittingSet, fit_directions
from pipelines.vectors.responses import directions_of
from serving.model.language_model import load
from serving.model.sources import find_series

MADE = {
    "mass-mean": (1, (0.823, 0.386, -0.005, -0.384, 0.162, -0.022)),
    "mean-centred": (1, (0.782, 0.242, -0.123, -0.383, 0.376, 0.163)),
    "pca": (1, (0.634, -0.018, -0.502, 0.147, 0.472, -0.320)),
    "logistic": (1, (0.741, 0.452, 0.044, -0.464, 0.163, -0.051)),
    "lda": (1, (0.762, 0.158, 0.454, -0.274, -0.304, -0.146)),
    "random": (1, (0.135, -0.141, 0.686, 0.112, -0.574, 0.387)),
    "shuffled": (1, (0.446, -0.372, -0.350, 0.462, 0.231, -0.522)),
}
"""The version of each method, and the vector that it makes of ``fitting``. Write a new one beside a raised version."""
READ = (1, (-0.298, -0.537, 0.048, 0.061))
"""The same of directions read on answers: version, and the first numbers of the vector of ``answers``."""


def fitting():
    labels = np.arange(24) % 2 == 0
    waves = np.sin(np.arange(24 * 6).reshape(24, 6) * 1.7)
    features = (waves + labels[:, None] * np.array([1.0, 0.5, 0.0, -0.5, 0.2, 0.0])).astype(np.float32)
    background = np.cos(np.arange(60).reshape(10, 6) * 0.9).astype(np.float32)
    return FittingSet(features, labels, np.arange(24) // 2, background)


def test_another_vector_has_another_version():
    for fitted in fit_directions(fitting(), tuple(METHODS), 1):
        version, expected = MADE[fitted.method]
        np.testing.assert_allclose(fitted.unit, expected, atol=2e-3, err_msg=f"raise VERSIONS[{fitted.method!r}]")
        assert VERSIONS[fitted.method] == version
    assert VERSIONS.keys() == {*MADE, *RESPONSE_METHODS}


def test_another_reading_of_answers_has_another_version(series_directory):
    model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
    kind, cruel = (
        tuple(PromptedAnswer(f"the city {n}", f" {word} {word}") for n in range(20)) for word in ("kind", "cruel")
    )
    answers = AnswerSet("toxicity", "s", kind, cruel)
    ((_, fitted),) = directions_of(model, "response-mean", answers, answers, "d", [1])
    version, expected = READ
    np.testing.assert_allclose(fitted.unit[: len(expected)], expected, atol=2e-3, err_msg="raise VERSIONS of these")
    assert {VERSIONS[method] for method in ("response-mean", "persona")} == {version}


@pytest.mark.parametrize("method", ["response-mean", "persona", "lda"])
def test_raised_code_is_registered_anew(method, monkeypatch):
    texts = FittedTexts("answers:cruel-answers", "ab", 80, 1.0)
    fitted = methods.FittedDirection(method, 0, np.array([1.0, 0.0], np.float32), 1.0, 0.0, texts)
    before = tracking.version_digest("unit", {1: fitted}, "")
    assert tracking.version_digest("unit", {1: fitted}, "") == before
    monkeypatch.setattr(tracking, "VERSIONS", {**VERSIONS, method: 2})
    assert tracking.version_digest("unit", {1: fitted}, "") != before


def test_a_version_with_a_probe_is_another_one(monkeypatch):
    with_probe = tracking.probed_digest("ab")
    assert with_probe != "ab" and len(with_probe) == 32
    monkeypatch.setattr(tracking, "PROBE_VERSION", 99)
    assert tracking.probed_digest("ab") != with_probe
