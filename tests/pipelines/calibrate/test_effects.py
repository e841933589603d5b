import numpy as np
import pytest

from pipelines.calibrate.effects import preference_shift


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
