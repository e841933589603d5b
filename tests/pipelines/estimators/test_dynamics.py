import numpy as np
import pytest

from pipelines.estimators.dynamics import (
    change_correlation,
    step_of_rise,
    transfer_accuracy,
)
from tests.simulate.checkpoints import CORRELATED_STEPS, UNRELATED, correlation_error, onset_error

STEPS = (0, 8, 32, 64)


def test_the_step_of_a_rise_is_at_a_share():
    assert step_of_rise(STEPS, np.array([0.0, 0.5, 0.96, 1.0])) == 32
    assert step_of_rise(STEPS, np.array([0.0, 0.5, 0.96, 1.0]), share=0.5) == 8
    assert step_of_rise(STEPS, np.array([1.0, 0.5, 0.2, 0.1])) is None


def accuracies(states, weights, biases, labels, folds):
    found = transfer_accuracy(states, weights, biases, labels, folds, np.arange(len(labels)))
    assert all(estimate.low < estimate.high for row in found for estimate in row)
    return np.array([[estimate.value for estimate in row] for row in found])


def test_probes_transfer_only_where_the_direction_stays(rng):
    n, folds = 200, np.arange(200) % 5
    labels = rng.random(n) > 0.5
    signal = np.where(labels, 2.0, -2.0)[:, None]
    first, second = np.array([[1.0, 0]]), np.array([[0, 1.0]])
    states = [(signal * axis + 0.3 * rng.normal(size=(n, 2))).astype(np.float32) for axis in (first, first, second)]
    weights = [np.repeat(axis, 5, axis=0).astype(np.float32) for axis in (first, first, second)]
    found = accuracies(states, weights, [np.zeros(5, np.float32)] * 3, labels, folds)
    np.testing.assert_allclose(found[:2, :2], 1)
    assert found[2, 2] == 1
    assert found[0, 2] == pytest.approx(0.5, abs=0.12)


def test_statements_are_predicted_by_probes_that_missed_them():
    states = [np.ones((4, 1), np.float32)]
    weights = [np.array([[1.0], [-1.0]], np.float32)]
    labels, folds = np.array([True, False, True, True]), np.array([0, 1, 0, -1])
    assert accuracies(states, weights, [np.zeros(2, np.float32)], labels, folds)[0, 0] == 1


def test_changes_correlate_as_pearson_says_once_trends_are_gone(rng):
    x, y = np.cumsum(rng.normal(size=(2, 12)), axis=1)
    trend = np.vander(np.arange(11), 3)
    residuals = [change - trend @ np.linalg.lstsq(trend, change, rcond=None)[0] for change in (np.diff(x), np.diff(y))]
    found = change_correlation(x, y)
    assert found.value == pytest.approx(np.corrcoef(*residuals)[0, 1])
    assert change_correlation(x + 5 + 3 * np.arange(12) ** 3, y).value == pytest.approx(found.value, abs=1e-6)
    assert found.n == 12


@pytest.mark.parametrize("n", CORRELATED_STEPS)
def test_unrelated_curves_correlate_in_five_percent(n):
    """The fast version of ``python -m tests.simulate checkpoints``; a share of .05 of 400 has an error of .011."""
    assert max(correlation_error(kind, n, trials=400) for kind in UNRELATED) <= 0.05 + 0.03


def test_onset_on_noise_is_rare_over_all_steps_and_layers():
    assert onset_error(steps=15, layers=4, trials=60) <= 0.05 + 0.06


def test_onset_still_comes_where_bits_come():
    assert onset_error(steps=15, layers=4, trials=20, bits=0.35) == 1
