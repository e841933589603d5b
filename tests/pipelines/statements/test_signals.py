import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipelines.estimators.estimate import GroupBootstrap
from pipelines.statements.signals import bootstrap_auroc, placement_values


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=4, max_size=40))
@settings(max_examples=50, deadline=None)
def test_placement_values_average_to_the_auroc_ties_included(rows):
    labels, scores = np.array([label for label, _ in rows]), np.array([float(score) for _, score in rows])
    if labels.all() or not labels.any():
        return
    assert placement_values(labels, scores).mean() == pytest.approx(roc_auc_score(labels, scores))


def test_the_interval_is_that_of_resampling_whole_groups(rng):
    labels = np.tile([True, False, True], 100)
    scores = rng.normal(size=300) + labels
    groups = np.arange(300) // 3
    estimate = bootstrap_auroc(labels, scores, GroupBootstrap(groups))
    drawn = []
    for _ in range(500):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in rng.integers(0, 100, 100)])
        drawn.append(roc_auc_score(labels[rows], scores[rows]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert estimate.value == pytest.approx(roc_auc_score(labels, scores))
    assert estimate.low == pytest.approx(low, abs=0.01)
    assert estimate.high == pytest.approx(high, abs=0.01)


def test_perfect_separation_is_bounded_by_the_rarer_class():
    estimate = bootstrap_auroc(np.array([True, False] * 10), np.array([1.0, 0.0] * 10), GroupBootstrap(np.arange(20)))
    assert (estimate.value, estimate.high) == (1, 1)
    assert estimate.low == pytest.approx(0.05 ** (1 / 10))
