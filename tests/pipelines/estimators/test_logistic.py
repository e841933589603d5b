import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipelines.estimators.logistic import fit_logistic
from pipelines.estimators.standardised_features import StandardisedFeatures


def correlated_features(rng, n=300, d=24):
    mixing = rng.normal(size=(d, d)) * np.exp(-np.arange(d) / 4)[:, None]
    return (rng.normal(size=(n, d)) @ mixing + rng.normal(size=d)).astype(np.float32)


def test_every_problem_is_solved_as_by_scikit_learn(rng):
    features = correlated_features(rng)
    labels = features[:, 0] + rng.normal(size=300) > features[:, 0].mean()
    masks = np.stack([rng.random(300) < 0.7 for _ in range(6)], axis=1)
    penalties = np.array([1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e-2])
    fits = fit_logistic(torch.tensor(features), np.repeat(labels[:, None], 6, axis=1), masks, penalties, tolerance=1e-5)
    ours = fits.logits(torch.tensor(features)).numpy()
    for k in range(6):
        scaler = StandardScaler().fit(features[masks[:, k]].astype(np.float64))
        reference = LogisticRegression(C=penalties[k], tol=1e-8, max_iter=5000)
        reference.fit(scaler.transform(features[masks[:, k]]), labels[masks[:, k]])
        theirs = reference.decision_function(scaler.transform(features))
        np.testing.assert_allclose(ours[:, k], theirs, atol=2e-3 * np.abs(theirs).max())


def test_more_features_than_rows_are_solved_as_scikit_learn_does(rng):
    features = correlated_features(rng, n=60, d=200)
    labels = features[:, 0] + rng.normal(size=60) > features[:, 0].mean()
    masks = np.stack([np.arange(60) % 5 != fold for fold in range(5)], axis=1)
    penalties = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    fits = fit_logistic(torch.tensor(features), np.repeat(labels[:, None], 5, axis=1), masks, penalties, tolerance=1e-5)
    ours = fits.logits(torch.tensor(features)).numpy()
    for k in range(5):
        scaler = StandardScaler().fit(features[masks[:, k]].astype(np.float64))
        reference = LogisticRegression(C=penalties[k], tol=1e-8, max_iter=5000)
        reference.fit(scaler.transform(features[masks[:, k]]), labels[masks[:, k]])
        theirs = reference.decision_function(scaler.transform(features))
        np.testing.assert_allclose(ours[:, k], theirs, atol=2e-3 * np.abs(theirs).max())
    assert fits.iterations < 60


@pytest.mark.parametrize("n, d", [(120, 24), (60, 200)])
def test_features_standardised_once_give_the_same_bits(rng, n, d):
    features = torch.tensor(correlated_features(rng, n=n, d=d))
    shared = StandardisedFeatures.of(features)
    for penalties in ([1e-3] * 4, [1e-2, 1e-2, 1.0, 1.0]):
        labels, masks = rng.random((n, 4)) < 0.5, rng.random((n, 4)) < 0.8
        once, anew = (fit_logistic(each, labels, masks, np.array(penalties)) for each in (shared, features))
        assert torch.equal(once.weights, anew.weights) and torch.equal(once.biases, anew.biases)


@pytest.mark.parametrize("n, d", [(120, 24), (60, 200)])
def test_folds_share_a_factor_for_each_penalty(rng, n, d, monkeypatch):
    features = torch.tensor(correlated_features(rng, n=n, d=d))
    shared, factored, factor = StandardisedFeatures.of(features), [], torch.linalg.cholesky
    monkeypatch.setattr(torch.linalg, "cholesky", lambda matrix: factored.append(len(matrix)) or factor(matrix))
    for left_out in (1, 2):
        masks = np.stack([np.arange(n) % 5 >= left_out] * 3, axis=1)
        for penalties in ([1e-3] * 3, [1e-3, 1e-2, 1e-2]):
            fit_logistic(shared, rng.random((n, 3)) < 0.5, masks, np.array(penalties))
    assert factored == [min(n, d)] * 2


@pytest.mark.parametrize("n, d", [(120, 24), (60, 200)])
def test_fits_know_the_logits_of_their_own_features(rng, n, d):
    features = torch.tensor(correlated_features(rng, n=n, d=d))
    labels, masks = rng.random((n, 4)) < 0.5, rng.random((n, 4)) < 0.8
    fits = fit_logistic(features, labels, masks, np.array([1e-3, 1e-2, 0.1, 1.0]))
    torch.testing.assert_close(fits.fitted_logits, fits.logits(features), atol=1e-4, rtol=1e-4)


def test_problems_of_several_penalties_are_solved_as_each_by_itself(rng):
    features, labels = torch.tensor(correlated_features(rng, n=60, d=200)), rng.random((60, 3)) < 0.5
    masks, penalties = rng.random((60, 3)) < 0.8, np.array([1e-3, 1e-1, 1e-3])
    together = fit_logistic(features, labels, masks, penalties, tolerance=1e-5).logits(features)
    for k in range(3):
        column = slice(k, k + 1)
        alone = fit_logistic(features, labels[:, column], masks[:, column], penalties[column], tolerance=1e-5)
        torch.testing.assert_close(together[:, column], alone.logits(features), atol=1e-3, rtol=1e-3)


def test_rows_outside_the_mask_do_not_matter(rng):
    features = correlated_features(rng)
    labels = rng.random((300, 1)) < 0.5
    mask = np.arange(300)[:, None] < 200
    changed = labels.copy()
    changed[200:] = ~changed[200:]
    one = fit_logistic(torch.tensor(features), labels, mask, np.array([0.1]))
    other = fit_logistic(torch.tensor(features), changed, mask, np.array([0.1]))
    torch.testing.assert_close(one.weights, other.weights)


def test_a_constant_feature_gets_no_weight_and_does_no_harm(rng):
    features = correlated_features(rng)
    features[:, 3] = 7.25
    labels = (features[:, :1] > features[:, 0].mean()).astype(bool)
    fit = fit_logistic(torch.tensor(features), labels, np.ones((300, 1), bool), np.array([1.0]))
    assert fit.weights[3, 0] == 0
    assert torch.isfinite(fit.weights).all()


def test_separable_classes_converge_and_are_separated(rng):
    features = rng.normal(size=(200, 8)).astype(np.float32)
    labels = (features[:, :1] > 0).astype(bool)
    features[:, 0] += np.where(labels[:, 0], 5, -5)
    fit = fit_logistic(torch.tensor(features), labels, np.ones((200, 1), bool), np.array([1.0]))
    assert ((fit.logits(torch.tensor(features)).numpy() > 0) == labels).all()
    assert fit.iterations < 100


def test_a_far_away_mean_does_not_cost_accuracy(rng):
    features = correlated_features(rng)
    labels = (features[:, :1] + rng.normal(size=(300, 1)) > features[:, 0].mean()).astype(bool)
    shifted = (features + 1000).astype(np.float32)
    mask = np.ones((300, 1), bool)
    near = fit_logistic(torch.tensor(features), labels, mask, np.array([0.1])).logits(torch.tensor(features))
    far = fit_logistic(torch.tensor(shifted), labels, mask, np.array([0.1])).logits(torch.tensor(shifted))
    assert (near - far).abs().max() < 0.02 * near.abs().max()
