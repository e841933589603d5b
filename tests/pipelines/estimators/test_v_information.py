import numpy as np
import pytest
from scipy.special import expit

from pipelines.estimators.estimate import GroupBootstrap
from pipelines.estimators.mutual_information import neighbour_information_bits
from pipelines.estimators.v_information import conditional_information, label_entropy_bits, usable_information


def test_the_labels_entropy_is_known():
    assert label_entropy_bits(np.array([True, False])) == 1
    assert label_entropy_bits(np.array([True, True])) == 0
    assert label_entropy_bits(np.array([True] + [False] * 3)) == pytest.approx(0.811278, abs=1e-6)


def test_a_channel_of_known_capacity_is_measured_in_bits(rng):
    labels = rng.random(4000) > 0.5
    flipped = labels ^ (rng.random(4000) < 0.11)
    bootstrap = GroupBootstrap(np.arange(4000))
    found = bootstrap.mean(usable_information(labels, np.where(flipped, 0.89, 0.11)))
    capacity = 1 - (-0.11 * np.log2(0.11) - 0.89 * np.log2(0.89))
    assert found.low < capacity < found.high
    wrong = bootstrap.mean(usable_information(labels, np.full(4000, 0.9)))
    assert wrong.high < 0


def test_only_what_the_baseline_lacks_adds(rng):
    n = 2000
    known, news = rng.normal(size=n), rng.normal(size=n)
    labels = rng.random(n) < expit(2 * known + 2 * news)
    folds, bootstrap = rng.integers(0, 5, n), GroupBootstrap(np.arange(n))
    same = conditional_information(labels, expit(known), expit(2 * known), folds)
    assert abs(same.mean()) < 0.005
    noise = conditional_information(labels, expit(rng.normal(size=n)), expit(2 * known), folds)
    assert abs(noise.mean()) < 0.005
    more = bootstrap.mean(conditional_information(labels, expit(2 * news), expit(2 * known), folds))
    assert more.low > 0.1


def test_neighbours_find_the_information_of_a_known_mixture(rng):
    labels = rng.random(3000) > 0.5
    projection = rng.normal(size=3000) + np.where(labels, 1.0, -1.0)
    grid = np.linspace(-8, 8, 20001)
    density = lambda mean: np.exp(-((grid - mean) ** 2) / 2) / np.sqrt(2 * np.pi)  # noqa: E731
    posterior = density(1) / (density(1) + density(-1))
    surprise = -posterior * np.log2(posterior) - (1 - posterior) * np.log2(1 - posterior)
    expected = 1 - np.trapezoid((density(1) + density(-1)) / 2 * surprise, grid)
    assert neighbour_information_bits(projection, labels, seed=0) == pytest.approx(expected, abs=0.04)
    assert neighbour_information_bits(rng.normal(size=3000), labels, seed=0) < 0.03
