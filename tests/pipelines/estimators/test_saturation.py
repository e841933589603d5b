import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_curve

from pipelines.estimators import saturation as module
from pipelines.estimators.linear_probe import probe_layer
from pipelines.estimators.saturation import saturation
from pipelines.statements.splits import group_folds
from tests.mutants import mutant


def planted(rng, n=4000, d=6, apart=6.0):
    """Two Gaussians of deviation 1, ``apart`` along the first axis; groups of two."""
    labels = np.tile([True, False], n // 2)
    features = rng.normal(size=(n, d)).astype(np.float32)
    features[:, 0] += np.where(labels, apart / 2, -apart / 2)
    return features, labels, np.arange(n) // 2


def measured(features, labels, groups):
    folds = np.stack([group_folds(groups, labels, 5, seed) for seed in range(2)])
    predictions = probe_layer(features, labels, folds)
    distances, probabilities = (
        np.stack([getattr(prediction, name) for prediction in predictions]) for name in ("distances", "probabilities")
    )
    return saturation(distances, probabilities, labels, groups)


@pytest.mark.parametrize("apart", [3.0, 6.0])
@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_planted_gaussians_have_the_known_margin_and_fragility(rng, apart, unit):
    features, labels, groups = planted(rng, apart=apart)
    found = measured(features * np.float32(unit), labels, groups)
    # Noise s turns deviation 1 into sqrt(1 + s²), and accuracy Φ(apart / 2) into Φ(apart / 2 / sqrt(1 + s²)) = .75.
    noise = np.sqrt((apart / 2 / norm.ppf(0.75)) ** 2 - 1)
    rms = np.sqrt(np.square(features).mean())
    assert found.margin.value == pytest.approx(apart / 2, rel=0.03)
    assert found.margin.low < apart / 2 < found.margin.high
    assert found.fragility.value == pytest.approx(noise / rms, rel=0.05)
    assert found.fragility.low < noise / rms < found.fragility.high


def test_noise_of_the_fragility_leaves_accuracy_of_75_percent(rng):
    """Drawn, for distances that are no Gaussian's."""
    labels, groups = np.tile([True, False], 1000), np.arange(2000)
    distances = np.where(labels, 1, -1) * (rng.exponential(size=2000) + 0.05)
    noise = saturation(distances[None], distances[None], labels, groups).fragility.value
    moved = distances + noise * rng.normal(size=(50, 2000))
    assert ((moved > 0) == labels).mean() == pytest.approx(0.75, abs=0.005)


def test_intervals_of_margin_and_fragility_hold_the_truth():
    held = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        labels = np.tile([True, False], 40)
        distances = np.where(labels, 2.0, -2.0) + np.repeat(rng.normal(size=40), 2) * 0.7 + rng.normal(size=80) * 0.7
        found = saturation(distances[None], distances[None], labels, np.arange(80) // 2)
        spread = np.sqrt(0.98)
        truths = (2 / spread, np.sqrt((2 / norm.ppf(0.75)) ** 2 - 0.98))
        held.append([e.low < t < e.high for e, t in zip((found.margin, found.fragility), truths, strict=True)])
    assert (np.mean(held, axis=0) >= 0.93).all()


def test_saturated_layers_are_told_apart(rng):
    layers = [measured(*planted(rng, n=400, apart=apart)) for apart in (8.0, 16.0)]
    assert layers[0].margin.high < layers[1].margin.low
    assert layers[0].fragility.high < layers[1].fragility.low


def test_no_noise_is_needed_where_accuracy_is_low(rng):
    labels = np.tile([True, False], 100)
    found = saturation(rng.normal(size=(1, 200)), rng.random((1, 200)), labels, np.arange(200))
    assert found.fragility is None
    assert found.margin.low < 0 < found.margin.high


def test_equal_distances_have_no_margin():
    labels = np.tile([True, False], 100)
    found = saturation(np.zeros((1, 200)), np.full((1, 200), 0.5), labels, np.arange(200))
    assert (found.margin, found.fragility) == (None, None)
    assert found.tpr.value == 0


def test_tpr_at_one_percent_is_scikit_learns(rng):
    labels = rng.random(900) < 0.4
    probabilities = (1 / (1 + np.exp(-rng.normal(size=900) - 2 * labels))).round(2)  # with ties
    found = saturation(probabilities[None] - 0.5, probabilities[None], labels, np.arange(900)).tpr
    false, true, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    assert found.value == pytest.approx(true[false <= 0.01].max())
    assert found.n == labels.sum()


def test_one_percent_of_few_statements_cannot_be_told():
    labels = np.arange(220) >= 99
    scores = np.where(labels, 1.0, -1.0)[None]
    assert saturation(scores, scores, labels, np.arange(220)).tpr is None
    assert saturation(scores, scores, np.arange(220) >= 100, np.arange(220)).tpr.value == 1
    with mutant(module, "negatives < FEWEST_NEGATIVES", "negatives < 1") as changed:
        assert changed.saturation(scores, scores, labels, np.arange(220)).tpr is not None


@pytest.mark.parametrize("n", [200, 1000])
def test_the_interval_of_tpr_counts_its_threshold(n):
    truth, held, blind = 1 - norm.cdf(norm.ppf(0.99) - 2), [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.tile([True, False], n // 2)
        scores = (rng.normal(size=n) + 2 * labels)[None]
        found = saturation(scores, scores, labels, np.arange(n)).tpr
        held.append(found.low <= truth <= found.high)
        half = 1.96 * np.sqrt(found.value * (1 - found.value) / (n // 2))
        blind.append(abs(found.value - truth) <= half)
    assert np.mean(held) >= 0.95
    assert (found.low > 0) == (n > 2 * 368)
    assert np.mean(blind) < 0.75  # without the threshold's chance


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_separation_has_intervals_of_some_width(sign):
    labels = np.tile([True, False], 200)
    scores = sign * np.where(labels, 1.0, -1.0)[None] * np.linspace(1, 2, 400)
    found = saturation(scores, scores, labels, np.arange(400) // 2).tpr
    assert found.value == (sign > 0)
    assert 0 <= found.low < found.high <= 1
