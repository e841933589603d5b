import numpy as np
import pytest
import torch

from pipelines.estimators.group_permutations import group_permutations
from pipelines.estimators.jackknife import jackknife_halves, nhsic_on_halves
from pipelines.estimators.nhsic import (
    SHARE,
    choose_landmarks,
    kernel_factors,
    label_factor,
    nhsic,
    null,
    standardised,
)

LINEAR = 30.0
"""A multiple of the median bandwidth at which the kernel is linear to three digits."""


def factor(features, landmarks=0, scale=1.0, seed=0):
    matrix = standardised(features)
    return kernel_factors(matrix, choose_landmarks(len(features), landmarks, seed), (scale,))[0]


def literal(one, other, sigmas):
    """Two-sided centring and one dense inverse a variable, as the definition reads."""
    operators = []
    for features, sigma in zip((one, other), sigmas, strict=True):
        n = len(features)
        squares = ((features[:, None] - features[None]) ** 2).sum(axis=2)
        centring = np.eye(n) - 1 / n
        kernel = centring @ np.exp(-squares / (2 * sigma**2)) @ centring
        operators.append(kernel @ np.linalg.inv(kernel + SHARE * np.trace(kernel) * np.eye(n)))
    return np.trace(operators[0] @ operators[1])


def test_it_is_the_definition_of_dense_kernels_and_inverses(rng):
    one = rng.normal(size=(60, 5))
    other = one[:, :2] @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(60, 4))
    scaled = [((x - x.mean(axis=0)) / x.std(axis=0)) for x in (one, other)]
    sigmas = [np.median(np.linalg.norm(x[:, None] - x[None], axis=2)[np.triu_indices(60, 1)]) for x in scaled]
    assert [factor(x).bandwidth for x in (one, other)] == pytest.approx(sigmas, rel=0.01)
    exact = [factor(x).bandwidth for x in (one, other)]
    assert nhsic(factor(one), factor(other)) == pytest.approx(literal(*scaled, exact), rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0, 2.0])
def test_a_wide_kernel_gives_the_closed_form_of_the_spectrum(rng, decay):
    # Rows of a Hadamard-like orthogonal design have features of exactly equal spread whose Gram matrix is known.
    features = rng.normal(size=(300, 12)) * np.arange(1, 13) ** -decay @ rng.normal(size=(12, 12))
    matrix = standardised(features)
    shares = np.linalg.eigvalsh((matrix.T @ matrix).numpy()) / (300 * 12)
    expected = ((shares / (shares + SHARE)) ** 2).sum()
    found = factor(features, scale=LINEAR)
    assert nhsic(found, found) == pytest.approx(expected, abs=1e-2)


def test_with_labels_it_is_ridge_regressions_r_squared(rng):
    features = rng.normal(size=(200, 6))
    labels = features[:, 0] + 0.5 * rng.normal(size=200) > 0
    matrix = standardised(features).numpy()
    y = labels - labels.mean()
    gram = matrix @ matrix.T
    fitted = gram @ np.linalg.solve(gram + SHARE * np.trace(gram) * np.eye(200), y)
    expected = (y @ fitted) / (y @ y) / (1 + SHARE)
    assert nhsic(factor(features, scale=LINEAR), label_factor(labels)) == pytest.approx(expected, abs=1e-3)


def test_rotating_shifting_and_reordering_change_nothing(rng):
    features = rng.normal(size=(80, 4))
    features = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[0]  # equal spread in any basis
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    whole, turned = (kernel_factors(torch.tensor(x), np.arange(80))[0] for x in (features, features @ rotation + 3))
    assert nhsic(whole, whole) == pytest.approx(nhsic(turned, turned), rel=1e-9)
    order = rng.permutation(80)
    assert nhsic(factor(features[order]), factor(features[order][:, :2])) == pytest.approx(
        nhsic(factor(features), factor(features[:, :2])), rel=1e-6
    )


def test_it_is_never_negative_whatever_the_norms_of_rows(rng):
    for log_spread in (0.1, 0.5, 1.0, 2.0):
        for _ in range(25):
            one = rng.normal(size=(50, 8)) * np.exp(log_spread * rng.normal(size=(50, 1)))
            other = rng.normal(size=(50, 8)) * np.exp(log_spread * rng.normal(size=(50, 1)))
            assert nhsic(factor(one), factor(other)) >= 0


def test_landmarks_come_close_and_all_rows_are_exact(rng):
    features = rng.normal(size=(500, 10)) * np.arange(1, 11) ** -1.0 @ rng.normal(size=(10, 30))
    labels = features[:, 0] > 0
    exact, near = factor(features), factor(features, landmarks=150)
    assert near.components.shape[1] <= 150
    assert nhsic(near, near) == pytest.approx(nhsic(exact, exact), rel=0.05)
    assert nhsic(near, label_factor(labels)) == pytest.approx(nhsic(exact, label_factor(labels)), abs=0.01)
    np.testing.assert_array_equal(choose_landmarks(40, 50, 0), np.arange(40))


def test_repeated_and_constant_observations_are_borne():
    repeated = np.repeat(np.eye(3), 20, axis=0)
    found = factor(repeated)
    assert len(found.shares) == 2
    assert nhsic(found, found) == pytest.approx(2 * (0.5 / (0.5 + SHARE)) ** 2, rel=1e-6)
    constant = factor(np.ones((30, 3)))
    assert nhsic(constant, label_factor(np.arange(30) % 2 == 0)) == 0


def freely(n, count, seed=0):
    return group_permutations(np.arange(n), count, seed)


def test_the_null_is_what_permutations_give(rng):
    root = lambda factor: factor.components * factor.weights.sqrt()  # noqa: E731
    one, other = factor(rng.normal(size=(120, 6))), factor(rng.normal(size=(120, 3)))
    permuted = []
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(120)
        permuted.append(float((root(one).T @ root(other)[order]).square().sum()))
    chance = null(one, other, freely(120, 200, seed=1))
    assert chance.mean == pytest.approx(np.mean(permuted), rel=0.02)
    assert chance.mean == pytest.approx(float(one.weights.sum() * other.weights.sum()) / 119, rel=0.02)
    assert chance.quantile == pytest.approx(np.quantile(permuted, 0.95), rel=0.03)
    labels = label_factor(rng.random(120) > 0.5)
    against = null(one, labels, freely(120, 200, seed=1))
    assert against.mean < against.quantile


def test_independent_variables_reach_their_null_and_dependent_ones_pass_it(rng):
    one = rng.normal(size=(150, 5))
    chance = null(factor(one), factor(one[:, :3]), freely(150, 60))
    assert nhsic(factor(one), factor(one[:, :3])) > 3 * chance.quantile
    strangers = [
        nhsic(first, second) > null(first, second, freely(100, 60)).quantile
        for first, second in ((factor(rng.normal(size=(100, 5))), factor(rng.normal(size=(100, 3)))) for _ in range(40))
    ]
    assert np.mean(strangers) < 0.2


def test_shared_labels_need_the_null_of_groups(rng):
    groups = np.repeat(np.arange(30), 10)
    passed = {"groups": 0, "freely": 0}
    for draw in range(40):
        features = np.repeat(rng.normal(size=(30, 4)), 10, axis=0) + 0.1 * rng.normal(size=(300, 4))
        one, labels = factor(features, landmarks=100), label_factor(np.repeat(rng.permutation(30) < 15, 10))
        value = nhsic(one, labels)
        passed["groups"] += value > null(one, labels, group_permutations(groups, 60, draw)).quantile
        passed["freely"] += value > null(one, labels, freely(300, 60, draw)).quantile
    assert passed["groups"] <= 7  # 2 are expected, more than 7 have probability .001
    assert passed["freely"] > 30


def test_halves_keep_groups_whole_and_spread_as_new_samples_do(rng):
    halves = jackknife_halves(np.repeat(np.arange(50), 2), seed=0)
    assert halves.shape == (20, 100)
    np.testing.assert_array_equal(halves[:, ::2], halves[:, 1::2])
    np.testing.assert_array_equal(halves[0], ~halves[1])

    def draw():
        hidden = rng.normal(size=(200, 2))
        return hidden + 0.5 * rng.normal(size=(200, 2)), hidden

    fresh = np.std([nhsic(factor(a), factor(b)) for a, b in (draw() for _ in range(60))])
    one, other = draw()
    values = nhsic_on_halves(factor(one), factor(other), jackknife_halves(np.arange(200), seed=0, halves=60))
    assert np.std(values) == pytest.approx(fresh, rel=0.5)
    whole = nhsic_on_halves(factor(one), factor(other), np.ones((1, 200), bool))
    assert whole[0] == pytest.approx(nhsic(factor(one), factor(other)), rel=1e-3)
