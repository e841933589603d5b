import numpy as np
import pytest

from pipelines.estimators.preference import has_counterparts, preference_shift, preferred_share


def test_the_interval_holds_a_planted_shift(rng):
    labels = rng.random(2000) < 0.3
    before = rng.normal(-40, 10, 2000)
    after = before - 3 + np.where(labels, 0.5, 0.0) + rng.normal(0, 1, 2000)
    shift = preference_shift(before, after, labels, np.arange(2000) // 2)
    assert shift.low < 0.5 < shift.high
    assert shift.high - shift.low < 0.4


def test_what_moves_all_statements_alike_is_no_shift(rng):
    labels = np.tile([True, False, False], 50)
    before = rng.normal(size=150)
    assert preference_shift(before, before + 7, labels, np.arange(150)).value == pytest.approx(0)


def test_statements_of_one_group_count_as_one_observation(rng):
    labels = np.tile([True, False], 400)
    moved = np.repeat(rng.normal(size=8), 100) * np.where(labels, 1, -1)
    zeros = np.zeros(800)
    grouped = preference_shift(zeros, moved, labels, np.repeat(np.arange(8), 100))
    single = preference_shift(zeros, moved, labels, np.arange(800))
    assert grouped.high - grouped.low > 3 * (single.high - single.low)


def test_counterparts_are_statements_of_both_classes_in_every_set():
    labels = np.array([True, False, True, False])
    assert has_counterparts(labels, np.array([0, 0, 1, 1]))
    assert not has_counterparts(labels, np.array([0, 0, 1, 2]))


def test_the_preferred_share_compares_within_sets_and_counts_each_once():
    labels = np.array([True, False, False, True, False, True, False])
    sets = np.array([0, 0, 0, 1, 1, 2, 2])
    likely = np.array([-5.0, -9.0, -1.0, -100.0, -200.0, -3.0, -3.0])
    share = preferred_share(likely, labels, sets, sets)
    assert share.value == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert share.n == 3


def test_sets_of_one_group_are_resampled_together(rng):
    labels, sets = np.tile([True, False], 200), np.repeat(np.arange(200), 2)
    likely = np.where(labels, np.repeat(rng.normal(size=10) > 0, 40), 0.5).astype(float)
    together, apart = (preferred_share(likely, labels, sets, groups) for groups in (sets // 20, sets))
    assert together.high - together.low > 2 * (apart.high - apart.low)
