import numpy as np

from pipelines.estimators.estimate import GroupBootstrap
from pipelines.estimators.nested_selection import nested_selection
from tests.simulate.selection import noise, selected


def test_each_outer_fold_is_scored_by_its_own_choice():
    labels, folds = np.array([True, True, False, False]), np.array([[0, 1, 0, 1]])
    validation = np.array([[[0.9, 0.1]], [[0.2, 0.8]]])
    probabilities = np.array([[[0.9, 0.2, 0.1, 0.8]], [[0.3, 0.6, 0.7, 0.4]]])
    found = nested_selection(validation, probabilities, labels, folds, GroupBootstrap(np.arange(4)))
    assert found.chosen.tolist() == [[0, 1]]
    assert found.accuracy.value == 1  # either candidate alone is right on two of four
    assert found.auroc == 1
    assert found.agreement == 0.5


def test_of_equal_candidates_the_first_is_chosen():
    validation, probabilities = np.full((3, 1, 2), 0.7), np.random.default_rng(0).random((3, 1, 4))
    labels, folds = np.array([True, False, True, False]), np.array([[0, 0, 1, 1]])
    found = nested_selection(validation, probabilities, labels, folds, GroupBootstrap(np.arange(4)))
    assert (found.commonest, found.agreement) == (0, 1)


def test_the_best_of_sixteen_layers_of_noise_is_at_chance():
    """The fast version of ``python -m tests.simulate selection``."""
    nested, naive, above = noise(layers=16, seeds=1, trials=12)
    assert nested < 0.515
    assert naive > nested + 0.02
    assert above <= 2 / 12


def test_a_layer_that_holds_the_label_is_found():
    found, _ = selected(np.random.default_rng(0), layers=5, seeds=1, signal=3.0)
    assert (found.commonest, found.agreement) == (4, 1)
    assert found.accuracy.low > 0.85
