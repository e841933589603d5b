"""Every way to make a vector against a truth that it does not share: planted, closed form or scikit-learn's."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.estimators.control_directions import random_direction, shuffled_direction
from pipelines.estimators.jackknife import jackknife_halves
from pipelines.estimators.lda import lda_direction
from pipelines.estimators.likeness import likenesses, mass_mean_halves, reliability
from pipelines.estimators.mass_mean import fit_mass_mean
from pipelines.estimators.mean_centred import mean_centred_direction
from pipelines.estimators.principal import pair_differences, principal_direction
from pipelines.estimators.probe_direction import DIRECTION_PENALTY, probe_direction
from pipelines.vectors.methods import CONTROLS, METHODS, FittingSet, direction_halves, fit_directions
from registry.errors import InvalidInput

D = 10


@pytest.fixture
def pairs(rng):
    """A thousand pairs that differ along one axis, far apart from each other, under correlated noise."""
    axis = unit(rng.normal(size=D))
    groups = np.repeat(np.arange(1000), 2)
    labels = np.tile([True, False], 1000)
    mixing = rng.normal(size=(D, D)) / np.sqrt(D)
    noise = rng.normal(size=(2000, D)) @ mixing + 5 * rng.normal(size=(1000, D))[groups]
    return (noise + np.where(labels, 2.0, -2.0)[:, None] * axis).astype(np.float32), labels, groups, axis


@pytest.fixture
def correlated(rng):
    """Two classes under noise of known covariance, so that the best direction is not that of the means."""
    mixing = np.linalg.qr(rng.normal(size=(D, D)))[0] * np.linspace(0.3, 3, D)
    difference = rng.normal(size=D)
    labels = rng.random(20_000) < 0.5
    features = rng.normal(size=(20_000, D)) @ mixing.T + labels[:, None] * difference
    return features.astype(np.float32), labels, difference, mixing @ mixing.T


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_the_principal_direction_of_pairs_is_the_planted_axis(pairs):
    features, labels, groups, axis = pairs
    assert principal_direction(features, labels, groups) @ axis > 0.99


def test_the_principal_direction_is_scikit_learns(pairs):
    features, labels, groups, axis = pairs
    expected = TruncatedSVD(1, algorithm="arpack").fit(features[0::2] - features[1::2]).components_[0]
    found = principal_direction(features, labels, groups)
    np.testing.assert_allclose(found, expected * np.sign(expected @ axis), atol=1e-4)


def test_pairs_are_made_within_groups_where_any_holds_both_classes():
    features = np.array([[1.0], [10.0], [2.0], [20.0], [500.0]], np.float32)
    labels = np.array([True, False, True, False, False])
    found = pair_differences(features, labels, np.array([5, 5, 8, 8, 9]), seed=0)
    assert sorted(found[:, 0]) == [-18.0, -9.0]


def test_without_mixed_groups_the_rarer_class_pairs_once():
    features = np.array([[0.0], [0.0], [1.0], [2.0], [4.0]], np.float32)
    labels = np.array([True, True, False, False, False])
    found = pair_differences(features, labels, np.arange(5), seed=0)
    assert len(found) == 2
    assert len(set(found[:, 0])) == 2
    assert set(found[:, 0]) <= {-1.0, -2.0, -4.0}


def test_the_discriminant_is_the_one_that_the_true_covariance_gives(correlated):
    features, labels, difference, covariance = correlated
    found = lda_direction(features, labels)
    assert found @ unit(np.linalg.solve(covariance, difference)) > 0.999
    assert found @ unit(difference) < 0.9


def test_the_discriminant_is_scikit_learns_at_the_same_shrinkage(correlated):
    features, labels, _, _ = (features[:60] if len(features) > D else features for features in correlated)
    centred = features - np.stack([features[~labels].mean(axis=0), features[labels].mean(axis=0)])[labels.astype(int)]
    shrinkage = ledoit_wolf(centred, assume_centered=True)[1]
    assert shrinkage > 0.01
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(features, labels).coef_[0]
    np.testing.assert_allclose(lda_direction(features, labels), unit(expected), atol=1e-4)


def test_the_probe_direction_is_scikit_learns(correlated):
    features, labels, _, _ = correlated
    model = make_pipeline(StandardScaler(), LogisticRegression(C=DIRECTION_PENALTY, tol=1e-8)).fit(features, labels)
    expected = unit(model[1].coef_[0] / model[0].scale_)
    assert probe_direction(features, labels) @ expected > 0.9999


def test_mean_centred_sees_how_statements_differ_from_prose(rng):
    truth, form = np.eye(D)[0], np.eye(D)[1]
    labels = np.tile([True, False], 500)
    features = np.float32(rng.normal(size=(1000, D)) + 3 * form + np.where(labels, 1.0, -1.0)[:, None] * truth)
    prose = rng.normal(size=(4000, D)).astype(np.float32)
    # In closed form: the trustworthy lie at truth + 3 form, the prose at 0.
    assert mean_centred_direction(features, labels, prose) @ unit(truth + 3 * form) > 0.99


def test_random_directions_are_spread_evenly_and_drawn_again_the_same():
    drawn = np.stack([random_direction(64, seed=seed) for seed in range(400)])
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-6)
    # The cosine of two has mean 0 and variance 1 / d.
    cosines = (drawn @ drawn.T)[np.triu_indices(400, 1)]
    assert cosines.mean() == pytest.approx(0, abs=0.005)
    assert cosines.var() == pytest.approx(1 / 64, rel=0.05)
    np.testing.assert_array_equal(drawn[3], random_direction(64, seed=3))


def test_a_shuffled_direction_does_not_know_the_labels(pairs):
    features, labels, _, axis = pairs
    assert fit_mass_mean(features, labels).direction @ axis > 0.95
    cosines = [shuffled_direction(features, labels, seed=seed) @ axis for seed in range(200)]
    assert abs(np.mean(cosines)) < 3 * np.std(cosines) / np.sqrt(200)


def test_a_shuffled_direction_is_not_turned_by_classes_far_apart(rng):
    """Classes 40 apart in noise of 1: a free permutation would mostly give the axis or its reverse."""
    labels = np.tile([True, False], 500)
    features = (rng.normal(size=(1000, D)) + np.where(labels, 20.0, -20.0)[:, None] * np.eye(D)[0]).astype(np.float32)
    cosines = np.array([shuffled_direction(features, labels, seed=seed) @ np.eye(D)[0] for seed in range(200)])
    # As of any direction in D dimensions: mean square 1 / D.
    assert np.mean(cosines**2) == pytest.approx(1 / D, rel=0.4)


def test_controls_move_activations_as_far_as_the_mass_mean_direction(pairs, rng):
    features, labels, groups, _ = pairs
    fitting = FittingSet(features, labels, groups, rng.normal(size=(50, D)).astype(np.float32))
    fitted = list(fit_directions(fitting, list(METHODS), 2))
    assert [direction.label for direction in fitted] == [*METHODS, "random_0", "shuffled_0", "random_1", "shuffled_1"]
    for direction in fitted:
        projections = features @ direction.unit
        assert np.linalg.norm(direction.unit) == pytest.approx(1, abs=1e-5)
        assert direction.projection_mean == pytest.approx(projections.mean(), abs=1e-4)
        expected = fit_mass_mean(features, labels).scale if direction.method in CONTROLS else projections.std(ddof=1)
        assert direction.scale == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", list(METHODS))
def test_flipping_the_labels_flips_every_direction_but_the_mean_centred(method, pairs, rng):
    features, labels, groups, _ = pairs
    background = rng.normal(size=(50, D)).astype(np.float32)
    there = METHODS[method](FittingSet(features, labels, groups, background))
    back = METHODS[method](FittingSet(features, ~labels, groups, background))
    assert (there @ back == pytest.approx(-1, abs=1e-3)) == (method != "mean-centred")


@pytest.mark.parametrize("method", ["mean-centred", "pca", "lda"])
def test_activations_that_are_all_alike_have_no_direction(method):
    features, labels = np.ones((8, 3), np.float32), np.tile([True, False], 4)
    with pytest.raises(InvalidInput, match="no direction at this layer"):
        METHODS[method](FittingSet(features, labels, np.repeat(np.arange(4), 2), features))


@pytest.mark.parametrize("method", METHODS)
def test_halves_of_every_method_agree_on_a_planted_direction(rng, method):
    labels = np.tile([True, False], 60)
    features = (rng.normal(size=(120, D)) + np.where(labels, 3, -3)[:, None] * np.eye(D)[0]).astype(np.float32)
    background = rng.normal(size=(100, D)).astype(np.float32)
    groups = np.arange(120) // 2
    fitting = FittingSet(features, labels, groups, background)
    halves = jackknife_halves(groups, 0)
    found = direction_halves(fitting, method, halves)
    assert reliability(found) > 0.5
    (judged,) = likenesses([found], [mass_mean_halves(features, labels, halves)])[0]
    assert not judged.is_another
    assert direction_halves(fitting, "random", halves) is None
    one_class = direction_halves(fitting, method, labels[None])
    assert not one_class.halves.any()
