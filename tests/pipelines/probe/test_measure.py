import numpy as np
import pytest
import torch

from pipelines.estimators.standardised_features import StandardisedFeatures
from pipelines.model_io.activations import Activations
from pipelines.probe.measure import layers_at_once, measure
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.protocol import FittingProtocol
from tests.threads import threads_of_torch


@pytest.fixture
def statements():
    texts = tuple(f"w{number}" for number in range(80))
    return LabelledStatements("toxicity", texts, np.arange(80) % 2 == 0, np.arange(80) // 2, "test")


@pytest.mark.parametrize("protocol", ["sound", "paper"])
@pytest.mark.parametrize("jitter", [0, 1e-7])
def test_equal_activations_have_no_direction(statements, protocol, jitter, rng):
    same = np.full((80, 8), 0.3, np.float32) + jitter * rng.standard_normal((80, 8)).astype(np.float32)
    telling = rng.standard_normal((80, 8)).astype(np.float32) + 3 * statements.labels[:, None].astype(np.float32)
    measured = measure(
        Activations((0, 1), np.stack([same, telling])), statements, FittingProtocol(protocol=protocol, seeds=2)
    )
    pooled = {score.layer: score for score in measured.scores if score.seed is None}
    assert [direction.layer for direction in measured.directions] == [1]
    assert pooled[1].accuracy.value > 0.9
    assert np.isfinite(measured.probabilities).all()
    if jitter == 0:
        assert pooled[0].accuracy.value == pytest.approx(0.5, abs=0.13)
        assert pooled[0].auroc == pytest.approx(0.5)


def separable(n=240, apart=20.0):
    labels = np.arange(n) % 2 == 0
    statements = LabelledStatements("toxicity", tuple(f"w{i}" for i in range(n)), labels, np.arange(n) // 2, "test")
    features = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    features[:, 0] += np.where(labels, apart / 2, -apart / 2)
    return statements, features


def test_accuracy_of_one_has_an_interval_and_what_still_differs():
    statements, features = separable()
    nearer = features.copy()
    nearer[:, 0] /= 2
    measured = measure(Activations((0, 1), np.stack([features, nearer])), statements, FittingProtocol(seeds=2))
    far, near = (score for score in measured.scores if score.seed is None)
    for score in (far, near):
        assert (score.accuracy.value, score.accuracy.high) == (1, 1)
        assert 1 - score.accuracy.low == pytest.approx(3 / 120, rel=0.02)  # 120 pairs
        assert score.saturation.tpr.value == 1
    assert far.saturation.fragility.low > near.saturation.fragility.high
    assert all(score.saturation is not None for score in measured.scores)
    assert measured.distances.shape == measured.probabilities.shape
    assert ((measured.distances > 0) == (measured.probabilities > 0.5)).all()


def test_a_layer_is_standardised_once(monkeypatch):
    made = []
    of = StandardisedFeatures.of
    monkeypatch.setattr(StandardisedFeatures, "of", lambda features: made.append(features) or of(features))
    statements, features = separable()
    measure(Activations((0, 1), np.stack([features, 2 * features])), statements, FittingProtocol(seeds=2))
    assert len(made) == 2


def test_the_papers_probe_has_the_distances_of_its_plane():
    statements, features = separable(apart=4.0)
    paper = measure(Activations((0,), features[None]), statements, FittingProtocol(protocol="paper"))
    sound = measure(Activations((0,), features[None]), statements, FittingProtocol(seeds=1))
    first, second = (found.scores[-1].saturation for found in (paper, sound))
    assert first.fragility.value == pytest.approx(second.fragility.value, rel=0.2)
    assert first.tpr is None  # of 24 statements


def test_no_number_depends_on_how_many_cores_there_are():
    statements, features = separable(apart=2.0)
    read = Activations((0, 1, 2), np.stack([features, 2 * features[:, ::-1], np.roll(features, 1, axis=1)]))
    found = []
    for cores in (1, 3):
        with threads_of_torch(cores):
            found.append(measure(read, statements, FittingProtocol(seeds=2)))
    alone, together = found
    assert alone.scores == together.scores
    for name in ("probabilities", "validation", "distances"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))


def test_a_gpu_has_one_layer_at_a_time():
    assert layers_at_once("cuda:1") == layers_at_once(torch.device("mps")) == 1
    assert layers_at_once("cpu") > 1
