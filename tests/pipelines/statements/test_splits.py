import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.statements.splits import connected_groups, group_folds, group_leakage, sequential_split, whole_groups
from registry.errors import InvalidInput


@given(st.integers(20, 60), st.integers(1, 4), st.integers(0, 10))
@settings(max_examples=30, deadline=None)
def test_no_group_straddles_and_every_statement_has_a_fold(n_groups, size, seed):
    groups = np.repeat(np.arange(n_groups), 2 * size)
    labels = np.tile([True, False], n_groups * size)
    folds = group_folds(groups, labels, 5, seed)
    assert set(folds) == {0, 1, 2, 3, 4}
    for group in range(n_groups):
        assert len(set(folds[groups == group])) == 1
    for fold in range(5):
        assert group_leakage(groups, np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) == 0


def test_seeds_split_differently_and_repeatably():
    groups, labels = np.arange(50), np.tile([True, False], 25)
    one, same, other = (group_folds(groups, labels, 5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_few_groups_or_one_class_is_refused():
    with pytest.raises(InvalidInput, match="3 groups cannot be split into 5"):
        group_folds(np.arange(3), np.array([True, False, True]), 5, 0)
    labels = np.array([True, True] + [False] * 18)
    with pytest.raises(InvalidInput, match="one class only"):  # in a sentence, and without the library's warning
        group_folds(np.arange(20), labels, 5, 0)


def test_the_papers_split_is_sequential_and_leaks():
    train, test = sequential_split(10, 0.8)
    assert list(train) == list(range(8))
    assert list(test) == [8, 9]
    assert group_leakage(np.array([0, 1, 2, 3, 4, 5, 6, 7, 7, 9]), train, test) == 0.5


@given(st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(0, 6)), min_size=1, max_size=25))
@settings(max_examples=50, deadline=None)
def test_rows_connect_through_chains_of_shared_keys(keys):
    groups = connected_groups([text for text, _ in keys], [pair for _, pair in keys])
    reached = [{row} for row in range(len(keys))]
    for _ in keys:
        for rows in reached:
            for other, (text, pair) in enumerate(keys):
                if any(text == keys[row][0] or (pair is not None and pair == keys[row][1]) for row in rows):
                    rows.add(other)
    for row in range(len(keys)):
        assert set(np.flatnonzero(groups == groups[row])) == reached[row]
    assert list(dict.fromkeys(groups)) == list(range(groups.max() + 1))


@given(st.integers(1, 40), st.integers(1, 100), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_a_limit_takes_few_whole_groups(n_groups, limit, seed):
    groups = np.repeat(np.arange(n_groups), 3)
    rows = whole_groups(groups, limit, seed)
    assert list(rows) == sorted(rows)
    assert len(rows) == min(3 * -(-limit // 3), 3 * n_groups)
    assert all(np.sum(groups[rows] == group) == 3 for group in set(groups[rows]))
