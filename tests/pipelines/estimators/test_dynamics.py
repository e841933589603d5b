import numpy as np
import pytest

from pipelines.estimators.dynamics import cosines, onset, rank_correlation, step_of_rise, transfer_accuracy
from pipelines.estimators.estimate import Estimate

STEPS = (0, 8, 32, 64)


def test_onset_is_the_first_interval_above_the_control():
    control = Estimate(0.1, 0.0, 0.2, 100)
    estimates = [Estimate(value, value - 0.1, value + 0.1, 100) for value in (0.0, 0.25, 0.4, 0.3)]
    assert onset(STEPS, estimates, control) == 32
    assert onset(STEPS[:2], estimates[:2], control) is None


def test_the_step_of_the_rise_is_where_a_share_of_it_is_done():
    assert step_of_rise(STEPS, np.array([0.0, 0.5, 0.96, 1.0])) == 32
    assert step_of_rise(STEPS, np.array([0.0, 0.5, 0.96, 1.0]), share=0.5) == 8
    assert step_of_rise(STEPS, np.array([1.0, 0.5, 0.2, 0.1])) is None


def test_probes_transfer_where_the_direction_stays_and_not_where_it_turned(rng):
    n, folds = 200, np.arange(200) % 5
    labels = rng.random(n) > 0.5
    signal = np.where(labels, 2.0, -2.0)[:, None]
    first, second = np.array([[1.0, 0]]), np.array([[0, 1.0]])
    states = [(signal * axis + 0.3 * rng.normal(size=(n, 2))).astype(np.float32) for axis in (first, first, second)]
    weights = [np.repeat(axis, 5, axis=0).astype(np.float32) for axis in (first, first, second)]
    found = transfer_accuracy(states, weights, [np.zeros(5, np.float32)] * 3, labels, folds)
    np.testing.assert_allclose(found[:2, :2], 1)
    assert found[2, 2] == 1
    assert found[0, 2] == pytest.approx(0.5, abs=0.12)


def test_a_statement_is_predicted_by_the_probe_that_did_not_see_it():
    states = [np.ones((4, 1), np.float32)]
    weights = [np.array([[1.0], [-1.0]], np.float32)]
    labels, folds = np.array([True, False, True, True]), np.array([0, 1, 0, -1])
    assert transfer_accuracy(states, weights, [np.zeros(2, np.float32)], labels, folds)[0, 0] == 1


def test_cosines_are_of_every_two():
    np.testing.assert_allclose(cosines([np.array([2.0, 0]), np.array([0, 3.0])]), np.eye(2), atol=1e-12)


def test_rank_correlation_is_of_orders_and_means_over_layers():
    rising, bent = np.arange(5.0), np.array([0.0, 1, 4, 9, 100])
    assert rank_correlation(np.stack([rising, rising]), np.stack([bent, -bent])) == pytest.approx(0)
    assert rank_correlation(np.stack([rising, np.ones(5)]), np.stack([bent, bent])) == pytest.approx(1)
    assert np.isnan(rank_correlation(np.ones((1, 5)), bent[None]))
