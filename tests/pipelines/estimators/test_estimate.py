import numpy as np
import pytest

from pipelines.estimators.estimate import Estimate, GroupBootstrap


def test_the_interval_of_independent_coin_flips_is_the_binomial_one(rng):
    flips = (rng.random(400) < 0.7).astype(float)
    estimate = GroupBootstrap(np.arange(400)).mean(flips)
    half = 1.96 * np.sqrt(flips.mean() * (1 - flips.mean()) / 400)
    assert estimate.value == pytest.approx(flips.mean())
    assert estimate.high - estimate.value == pytest.approx(half, rel=0.15)
    assert estimate.value - estimate.low == pytest.approx(half, rel=0.15)


def test_copies_within_a_group_add_no_certainty(rng):
    flips = (rng.random(100) < 0.7).astype(float)
    single = GroupBootstrap(np.arange(100)).mean(flips)
    copied = GroupBootstrap(np.repeat(np.arange(100), 9)).mean(np.repeat(flips, 9))
    assert copied.n == 900
    assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=0.05)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    truth, covered = 0.6, 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        groups = np.repeat(np.arange(60), 3)
        values = (rng.random(180) < truth).astype(float)
        estimate = GroupBootstrap(groups, seed=trial, resamples=300).mean(values)
        covered += estimate.low <= truth <= estimate.high
    assert 0.90 <= covered / 200 <= 0.99


def test_one_estimate_is_above_another_only_when_the_intervals_are_apart():
    low, near, far = (Estimate(v, v - 0.05, v + 0.05, 10) for v in (0.5, 0.58, 0.7))
    assert far.above(low)
    assert not near.above(low)
