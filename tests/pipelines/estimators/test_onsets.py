import dataclasses

import pytest

from pipelines.estimators import onsets
from pipelines.estimators.estimate import Estimate
from pipelines.estimators.onsets import MedianOnset, Onset, median_onset, onset_above, onset_of
from tests.mutants import mutant

STEPS = (0, 8, 32, 64)


def near(value):
    return Estimate(value, value - 0.05, value + 0.05, 400)


def test_onset_is_the_first_step_surely_above_the_control():
    control = Estimate(0.1, 0.0, 0.2, 100)
    estimates = [Estimate(value, value - 0.1, value + 0.1, 100) for value in (0.0, 0.25, 0.4, 0.3)]
    assert onset_above(STEPS, estimates, control).step == 32
    assert onset_above(STEPS[:2], estimates[:2], control, comparisons=4) == Onset(None)
    # .3 is 4.16 standard errors: beyond 1 in 20 of a thousand comparisons, not of a million.
    assert onset_above(STEPS, estimates, control, comparisons=1000).step == 32
    assert onset_above(STEPS, estimates, control, comparisons=1_000_000).step is None


COURSES = {
    "falls back to chance": ((0.5, 0.8, 0.9, 0.5, 0.5), (False, True, True, False, False), 3),
    "falls back and comes again": ((0.5, 0.8, 0.5, 0.9), (False, True, False, True), 2),
    "stays above its controls, below its peak": ((0.5, 0.9, 0.7, 0.7), (False, True, True, True), None),
    # .09 is 2.5 standard errors of a difference: less than one of ten pairs must have (2.6).
    "no longer surely above, and not surely below": (
        (0.5, 0.62, 0.53, 0.62, 0.62),
        (False, True, False, True, True),
        None,
    ),
    "never began": ((0.5, 0.5, 0.4), (False, False, False), None),
    "no estimate": ((0.5, 0.8, None), (False, True, False), None),
    "ends there": ((0.5, 0.5, 0.9), (False, False, True), None),
}


def check_courses(module=onsets):
    for name, (values, holds, lost) in COURSES.items():
        assert module.lost_after([value and near(value) for value in values], holds) == lost, name


def test_an_onset_that_falls_back_is_told():
    check_courses()


LOST_MUTANTS = {
    "below the onset is enough": ("if not holds[place] and first", "if first"),
    "not above is enough": (" and surely_above(first, here, pairs)", ""),
    "at the level of later steps": ("len(holds) * (len(holds) - 1) // 2", "len(holds) - 1"),
    "before the onset": ("range(began + 1, len(holds))", "range(len(holds))"),
}


@pytest.mark.parametrize("name", LOST_MUTANTS)
def test_the_courses_tell_a_mutant(name):
    with mutant(onsets, *LOST_MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_courses(changed)


@pytest.mark.parametrize(
    ("values", "found", "lasts", "text"),
    [
        ((0.5, 0.9, 0.9, 0.9), Onset(8, None, (True, True)), "yes", "8"),
        ((0.5, 0.9, 0.9, 0.5), Onset(8, 64, (True, False)), "no", "8, lost at 64"),
        ((0.5, 0.62, 0.56, 0.62), Onset(8, None, (False, True)), "not shown", "8"),
        ((0.5, 0.5, 0.5, 0.9), Onset(64), "", "64"),
        ((0.5, 0.5, 0.5, 0.5), Onset(None), "", "never"),
    ],
)
def test_an_onset_says_whether_it_lasts(values, found, lasts, text):
    holds = [value > 0.6 for value in values]
    onset = onset_of(STEPS, [near(value) for value in values], holds)
    assert onset == found
    assert (onset.lasts, str(onset)) == (lasts, text)


def test_an_onset_above_a_control_is_lost_below_it():
    values = [near(value) for value in (0.5, 0.9, 0.8, 0.5)]
    assert onset_above(STEPS, values, near(0.5)) == Onset(8, 64, (True, False))


@pytest.mark.parametrize(
    ("onsets", "median"),
    [
        ([8, 64], MedianOnset(8, 8, 64, 2, 0.5)),
        ([32, 8, 64, None, 16], MedianOnset(32, 8, None, 5, 1 - 2 / 32)),
        ([1, 2, 3, 4, 5, 6], MedianOnset(3, 1, 6, 6, 1 - 2 / 64)),
        (list(range(10)), MedianOnset(4, 1, 8, 10, 1 - 2 * 11 / 1024)),
        ([None, None], MedianOnset(None, None, None, 2, 0.5)),
    ],
)
def test_a_median_onset_has_an_interval_by_order_statistics(onsets, median):
    measured = median_onset(onsets)
    assert measured.confidence == pytest.approx(median.confidence)
    assert dataclasses.replace(measured, confidence=median.confidence) == median
