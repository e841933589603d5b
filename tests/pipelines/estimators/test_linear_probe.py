import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from pipelines.estimators.linear_probe import PENALTIES, probe_layer
from pipelines.estimators.paper_protocol import paper_probe
from pipelines.statements.splits import group_folds


def planted(rng, n=400, d=20, signal=2.0):
    """Two Gaussians ``signal`` standard deviations apart along the first axis, two statements a group."""
    labels = np.tile([True, False], n // 2)
    features = rng.normal(size=(n, d)).astype(np.float32)
    features[:, 0] += np.where(labels, signal / 2, -signal / 2)
    groups = np.repeat(np.arange(n // 2), 2)
    folds = np.stack([group_folds(groups, labels, 5, seed) for seed in range(2)])
    return features, labels, folds


def accuracy(probabilities, labels):
    return float(((probabilities > 0.5) == labels).mean())


def test_two_gaussians_are_separated_as_by_the_optimal_rule(rng):
    features, labels, folds = planted(rng, n=2000)
    for prediction in probe_layer(features, labels, folds):
        assert accuracy(prediction.probabilities, labels) == pytest.approx(0.8413, abs=0.03)  # Phi(1)


@pytest.mark.parametrize("signal", [0.5, 6.0])
def test_each_fold_gets_scikit_learns_c(rng, signal):
    features, labels, folds = planted(rng, n=200, d=60, signal=signal)
    for fold in range(5):
        validation = folds[0] == (fold + 1) % 5
        train = ~validation & (folds[0] != fold)
        scaler = StandardScaler().fit(features[train])
        fits = [LogisticRegression(C=c).fit(scaler.transform(features[train]), labels[train]) for c in PENALTIES]
        scaled = scaler.transform(features[validation])
        best = min(fits, key=lambda fit: log_loss(labels[validation], fit.predict_proba(scaled)))
        found = probe_layer(features, labels, folds[:1], tested=[fold])[0]
        assert found.validation_accuracy == pytest.approx(best.score(scaled, labels[validation]))


def test_shuffled_labels_sit_at_chance(rng):
    features, labels, folds = planted(rng, n=1000, signal=4.0)
    for prediction in probe_layer(features, labels, folds):
        assert accuracy(prediction.shuffled, labels) == pytest.approx(0.5, abs=0.08)


def test_with_the_planted_direction_projected_out_nothing_is_left(rng):
    features, labels, folds = planted(rng, n=1000, signal=4.0)
    difference = features[labels].mean(axis=0) - features[~labels].mean(axis=0)
    difference /= np.linalg.norm(difference)
    erased = features - np.outer(features @ difference, difference)
    assert accuracy(probe_layer(features, labels, folds)[0].probabilities, labels) > 0.95
    assert accuracy(probe_layer(erased, labels, folds)[0].probabilities, labels) < 0.56


def test_labels_of_a_tested_fold_reach_no_probe(rng):
    features, labels, folds = planted(rng)
    before = probe_layer(features, labels, folds[:1])[0]
    flipped = labels ^ (folds[0] == 2)
    after = probe_layer(features, flipped, folds[:1])[0]
    tested = folds[0] == 2
    # The fold before it validates on it, so only the predictions of fold 2 itself are bound to be untouched.
    np.testing.assert_allclose(before.probabilities[tested], after.probabilities[tested], atol=5e-3)


def test_the_papers_protocol_is_scikit_learns_default(rng):
    features, labels, _ = planted(rng, n=300, signal=1.0)
    found = paper_probe(features, labels)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0, ddof=1)
    reference = LogisticRegression().fit(scaled[:240], labels[:240])
    assert found.n_train == 240
    np.testing.assert_array_equal(found.rows, np.arange(240, 300))
    np.testing.assert_allclose(found.probabilities, reference.predict_proba(scaled[240:])[:, 1], atol=1e-6)
