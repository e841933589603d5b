import numpy as np
import pytest
from scipy.stats import t as student

from pipelines.estimators import estimate
from pipelines.estimators.estimate import (
    Estimate,
    GroupBootstrap,
    class_columns,
    difference_of_class_means,
    mean_of_few,
    rule_of_three,
)
from tests.mutants import mutant
from tests.simulate.intervals import CLASSES, GROUPS, MEANS, PROPORTIONS, coverage


def test_independent_coin_flips_have_the_binomial_interval(rng):
    flips = (rng.random(400) < 0.7).astype(float)
    estimate = GroupBootstrap(np.arange(400)).proportion(flips)
    half = 1.96 * np.sqrt(flips.mean() * (1 - flips.mean()) / 400)
    assert estimate.value == pytest.approx(flips.mean())
    assert estimate.high - estimate.value == pytest.approx(half, rel=0.05)
    assert estimate.value - estimate.low == pytest.approx(half, rel=0.05)


def test_a_mean_of_many_groups_has_students_interval(rng):
    values = rng.normal(size=300)
    estimate = GroupBootstrap(np.arange(300)).mean(values)
    half = student.ppf(0.975, 299) * values.std(ddof=1) / 300**0.5
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.08)
    assert estimate.high - estimate.value >= half * (1 - 1e-6)


def test_copies_within_a_group_add_no_certainty(rng):
    flips = (rng.random(100) < 0.7).astype(float)
    single = GroupBootstrap(np.arange(100)).proportion(flips)
    copied = GroupBootstrap(np.repeat(np.arange(100), 9)).proportion(np.repeat(flips, 9))
    assert copied.n == 900
    assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=0.05)


@pytest.mark.parametrize("n_groups", GROUPS)
def test_intervals_hold_the_truth_in_95_percent(n_groups):
    """The fast version of ``python -m tests.simulate intervals``; 100 draws lie within 0.045 of their expectation."""
    held = [coverage(case, n_groups, trials=100) for case in (*MEANS, *CLASSES, *PROPORTIONS)]
    assert min(held) >= 0.93 - 0.05
    assert np.mean(held) >= 0.93
    assert np.mean(held[: len(MEANS)]) <= 0.985


def test_one_group_says_nothing_of_others():
    alone = GroupBootstrap(np.zeros(40, np.int64))
    assert (alone.mean(np.arange(40.0)).low, alone.mean(np.arange(40.0)).high) == (-np.inf, np.inf)
    assert (alone.proportion(np.ones(40)).low, alone.proportion(np.ones(40)).high) == (0, 1)


def test_a_class_of_one_group_says_nothing_of_the_class(rng):
    labels = np.arange(30) == 0
    columns = class_columns(rng.normal(size=30), labels)
    found = GroupBootstrap(np.arange(30)).statistic(columns, difference_of_class_means, labels=labels)
    assert (found.low, found.high) == (-np.inf, np.inf)


def check_two_alike(module=estimate):
    """Two groups of a class that happen to be alike, beside forty of the other: one degree of freedom, not forty."""
    groups, labels = np.arange(42), np.arange(42) < 2
    values = np.r_[0.0, 0.01, np.tile([-1.0, 1.0], 20)]
    columns = module.class_columns(values, labels)
    found = module.GroupBootstrap(groups).statistic(columns, module.difference_of_class_means, labels=labels)
    error = np.hypot(values[2:].std(ddof=1) / 40**0.5, 0.005)
    assert found.high - found.low >= 2 * student.ppf(0.975, 1) * error * (1 - 1e-6)


def test_two_groups_of_a_class_have_one_degree_of_freedom():
    check_two_alike()
    passage = "groups.min() < FEWEST_FOR_WELCH"
    with mutant(estimate, passage, "False") as changed, pytest.raises(AssertionError):
        check_two_alike(changed)


def test_all_right_is_bounded_by_the_rule_of_three():
    assert GroupBootstrap(np.arange(400), fitted=True).proportion(np.ones(400)).low >= 0.9925
    assert GroupBootstrap(np.arange(400)).proportion(np.zeros(400)).high == pytest.approx(3 / 400, rel=0.01)
    paired = GroupBootstrap(np.arange(400) // 2).proportion(np.ones(400))
    assert 1 - paired.low == pytest.approx(rule_of_three(200)) == pytest.approx(3 / 200, rel=0.01)


def test_an_interval_of_fitted_predictions_is_wider(rng):
    flips, groups = (rng.random(400) < 0.7).astype(float), np.arange(400)
    plain, fitted = (GroupBootstrap(groups, fitted=each).proportion(flips) for each in (False, True))
    assert fitted.high - fitted.low == pytest.approx(1.3 * (plain.high - plain.low), rel=0.02)


def test_the_detectable_effect_is_seen_in_80_percent():
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        null = GroupBootstrap(np.arange(60), seed=seed % 4, resamples=200).mean(rng.normal(size=60))
        found.append(null.low + null.detectable > 0)
    assert 0.74 <= np.mean(found) <= 0.88


def test_an_estimate_is_above_another_when_intervals_are_apart():
    low, near, far = (Estimate(v, v - 0.05, v + 0.05, 10) for v in (0.5, 0.58, 0.7))
    assert far.above(low)
    assert not near.above(low)


def test_a_mean_of_few_values_has_students_interval():
    estimate = mean_of_few([0.6, 0.7, 0.8])
    half = student.ppf(0.975, 2) * 0.1 / 3**0.5
    assert (estimate.value, estimate.n) == (pytest.approx(0.7), 3)
    assert (estimate.low, estimate.high) == (pytest.approx(0.7 - half), pytest.approx(0.7 + half))
    assert mean_of_few([0.6, 0.9], (0, 1)).high == 1
    assert mean_of_few([0.6], (0, 1)) == Estimate(0.6, 0, 1, 1)


def test_what_rounds_to_nought_has_no_sign():
    assert str(Estimate(-0.0002, -0.0213, -0.0, 10)) == "0.000 [-0.021, 0.000]"
