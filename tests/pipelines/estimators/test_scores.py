import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.estimators.scores import auroc, calibration_error, cross_entropy_bits


def test_always_answering_one_half_costs_one_bit():
    assert cross_entropy_bits(np.array([True, False, True]), np.full(3, 0.5)) == pytest.approx(1)


def test_one_confident_mistake_costs_at_most_twenty_bits():
    assert cross_entropy_bits(np.array([True]), np.array([0.0])) == pytest.approx(np.log2(1e6))


def test_auroc_is_the_share_of_pairs_in_order():
    labels = np.array([True, True, False, False])
    assert auroc(labels, np.array([0.9, 0.4, 0.5, 0.1])) == pytest.approx(3 / 4)


@pytest.mark.parametrize("decimals", [1, 12])
def test_auroc_is_what_scikit_learn_says_with_ties_too(rng, decimals):
    labels, probabilities = rng.random(200) < 0.3, rng.random(200).round(decimals)
    assert auroc(labels, probabilities) == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)
    assert np.isnan(auroc(np.ones(3, np.bool_), probabilities[:3]))
    assert np.isnan(auroc(~labels[:3], np.full(3, np.nan)))


def test_true_frequencies_are_calibrated(rng):
    probabilities = rng.random(20_000)
    labels = rng.random(20_000) < probabilities
    assert calibration_error(labels, probabilities) < 0.02
    assert calibration_error(labels, np.where(probabilities > 0.5, 0.99, 0.01)) > 0.2


def test_equal_probabilities_share_a_bin_whatever_their_order():
    labels, ties = np.repeat([True, False], 50), np.full(100, 0.5)
    assert calibration_error(labels, ties) == 0
    assert calibration_error(labels[::-1], ties) == 0


def test_calibration_error_of_equal_bins_by_hand():
    """Ten bins of one: the mean of |label - probability| (Naeini et al. 2015, equation 3)."""
    labels, probabilities = np.arange(10) % 3 == 0, np.linspace(0.05, 0.95, 10)
    assert calibration_error(labels, probabilities) == pytest.approx(np.abs(labels - probabilities).mean())
    two = np.array([0.2] * 5 + [0.8] * 5), np.array([True] + [False] * 4 + [True] * 3 + [False] * 2)
    assert calibration_error(two[1], two[0]) == pytest.approx((5 * abs(0.2 - 0.2) + 5 * abs(0.6 - 0.8)) / 10)
