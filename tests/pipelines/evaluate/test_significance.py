from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test, ttest_ind, ttest_rel

from pipelines.estimators.preference import preference_shift
from pipelines.evaluate.measurement import (
    Measurement,
    commonest_share,
    margin_of,
    mean_of,
    perplexity_of_means,
)
from pipelines.evaluate.significance import compare, holm, mcnemar
from registry.errors import Mismatch


def flags(values, groups=None, **more):
    values = np.asarray(values, float)
    return mean_of("toxicity", "accuracy", values, np.arange(len(values)) if groups is None else groups, 1, **more)


@pytest.mark.parametrize(("better", "worse"), [(9, 1), (3, 4), (0, 6), (0, 0)])
def test_mcnemar_is_the_sign_test_of_the_items_that_changed(better, worse):
    before = np.array([False] * better + [True] * worse + [True] * 5)
    after = np.array([True] * better + [False] * worse + [True] * 5)
    n = better + worse
    tail = sum(comb(n, k) for k in range(min(better, worse) + 1)) / 2**n
    assert mcnemar(before, after) == pytest.approx(min(1.0, 2 * tail))
    if n:
        assert mcnemar(before, after) == pytest.approx(binomtest(better, n).pvalue)


def test_on_few_independent_items_the_exchange_test_is_exactly_mcnemar(rng):
    before, after = rng.random((2, 12)) < 0.5
    found = compare(flags(before), flags(after))
    assert found.p == pytest.approx(mcnemar(before, after))
    assert found.mcnemar_p == pytest.approx(found.p)


def test_on_few_groups_the_exchange_test_is_scipys(rng):
    before, after = rng.normal(size=10), rng.normal(0.5, 1, 10)
    exact = permutation_test(
        (after, before), lambda x, y: x.mean() - y.mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert compare(flags(before), flags(after)).p == pytest.approx(exact.pvalue)


def test_on_many_items_the_exchange_test_agrees_with_student(rng):
    before = rng.normal(size=200)
    after = before + 0.12 + rng.normal(scale=0.8, size=200)
    found = compare(flags(before), flags(after))
    assert found.p == pytest.approx(ttest_rel(before, after).pvalue, abs=0.01)
    assert found.mcnemar_p is None
    half_width = 1.96 * np.std(after - before, ddof=1) / np.sqrt(200)
    assert found.difference.high - found.difference.low == pytest.approx(2 * half_width, rel=0.1)


@pytest.mark.parametrize("n", [3, 6, 40])
def test_the_difference_of_few_groups_is_covered(n):
    rng, held = np.random.default_rng(n), 0
    for _ in range(300):
        found = compare(flags(np.zeros(n)), flags(rng.normal(0.3, 1, n))).difference
        held += found.low <= 0.3 <= found.high
    assert 0.92 <= held / 300 <= (0.985 if n > 3 else 1)


def test_shares_stay_between_nothing_and_all():
    found = compare(flags([1, 0, 0]), flags([1, 1, 0]))
    assert 0 <= found.value.low <= found.value.high <= 1


def test_without_any_difference_nothing_is_found(rng):
    values = rng.normal(size=30)
    found = compare(flags(values), flags(values))
    assert (found.difference.value, found.difference.low, found.difference.high, found.p) == (0, 0, 0, 1)


def test_unchanged_answers_bound_the_harm_by_the_rule_of_three():
    found = compare(flags([1, 0] * 50), flags([1, 0] * 50))
    assert found.difference.low == pytest.approx(-0.0295, abs=1e-3)
    base = flags([1, 0] * 50)
    assert compare(base, base).difference.low == 0


def test_five_percent_of_null_comparisons_are_significant(rng):
    p = []
    for _ in range(200):
        before, after = rng.normal(size=(2, 9))
        p.append(compare(flags(before), flags(after)).p)
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.1


def test_items_of_one_group_count_as_one_observation(rng):
    groups = np.repeat(np.arange(8), 50)
    moved = np.repeat(rng.normal(0.5, 1, 8), 50)
    grouped = compare(flags(np.zeros(400), groups), flags(moved, groups))
    single = compare(flags(np.zeros(400)), flags(moved))
    assert grouped.difference.high - grouped.difference.low > 3 * (single.difference.high - single.difference.low)
    assert single.p < grouped.p


def test_the_margin_moves_by_the_preference_shift(rng):
    labels, groups = np.tile([True, False], 60), np.arange(120) // 4
    before = rng.normal(-30, 8, 120)
    after = before - 2 + 0.7 * labels + rng.normal(0, 0.5, 120)
    base, other = (margin_of("toxicity", "preference", values, labels, groups) for values in (before, after))
    found, shift = compare(base, other).difference, preference_shift(before, after, labels, groups)
    assert found.value == pytest.approx(shift.value)
    assert (found.low, found.high) == (pytest.approx(shift.low, abs=0.05), pytest.approx(shift.high, abs=0.05))


def test_what_moves_both_classes_alike_is_no_part_of_chance(rng):
    """Groups of one class each: exchanging before and after would mix the common move in."""
    labels, groups = np.tile([True, False], 40), np.arange(80)
    before = rng.normal(-30, 8, 80)
    moved = 0.6 * labels + rng.normal(0, 0.5, 80)
    found = [
        compare(
            *(margin_of("toxicity", "preference", values, labels, groups) for values in (before, before + move + moved))
        )
        for move in (0.0, -40.0)
    ]
    assert found[0].p == found[1].p
    assert found[0].difference.low == pytest.approx(found[1].difference.low)
    assert found[0].p == pytest.approx(ttest_ind(moved[labels], moved[~labels]).pvalue, abs=0.002)


def test_margins_without_a_shift_are_rarely_significant(rng):
    labels, groups = np.tile([True, False], 10), np.arange(20)
    p = []
    for _ in range(200):
        before, after = rng.normal(-30, 8, 20), rng.normal(-5, 1, 20)
        base, other = (
            margin_of("toxicity", "preference", values, labels, groups) for values in (before, before + after)
        )
        p.append(compare(base, other).p)
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.1


def test_perplexity_is_that_of_all_tokens_together():
    columns = np.array([[10.0, 5.0], [2.0, 1.0], [0.0, 6.0]])
    measured = Measurement("fluency", "perplexity", columns, np.arange(3), -1, perplexity_of_means)
    assert measured.value == pytest.approx(np.exp(12 / 12))
    twice = Measurement("fluency", "perplexity", columns * [2, 1], np.arange(3), -1, perplexity_of_means)
    assert compare(measured, twice).difference.value == pytest.approx(np.e**2 - np.e)


def test_other_items_do_not_compare():
    with pytest.raises(Mismatch, match="measured on 3 items and accuracy on 4"):
        compare(flags([1, 0, 1]), flags([1, 0, 1, 1]))


def test_items_that_moved_the_wrong_way_are_counted():
    assert compare(flags([1, 1, 0, 0]), flags([2, 0, 0, 1])).worse == 0.25
    lower_is_better = [mean_of("fluency", "repetition", values, np.arange(3), -1) for values in ([1, 1, 1], [2, 0, 1])]
    assert compare(*lower_is_better).worse == pytest.approx(1 / 3)
    assert compare(*(mean_of("x", "y", [1, 2], np.arange(2), 0) for _ in range(2))).worse is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9]) == [0.9]


def test_a_constant_answerer_is_flagged_although_its_accuracy_looks_ordinary():
    """What arXiv 2402.19465 reports for ConfAIde: always 1, on 1173 statements of which 50.55 % are 1."""
    gold = np.array([1] * 593 + [0] * 580)
    measured = flags(gold == 1, answers=("1",) * 1173)
    assert measured.value == pytest.approx(0.5055, abs=1e-4)
    assert measured.is_constant
    assert commonest_share(gold.astype(str)) == pytest.approx(measured.value)
    assert not flags(gold == 1, answers=("1",) * 1100 + ("0",) * 73).is_constant
    assert not flags(gold == 1).is_constant
