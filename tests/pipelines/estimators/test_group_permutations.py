import numpy as np

from pipelines.estimators.group_permutations import group_permutations


def test_groups_of_one_size_change_places_whole(rng):
    groups = np.array([5, 5, 1, 1, 1, 7, 7, 5, 3, 7, 9])
    orders = group_permutations(groups, 200, seed=0)
    assert orders.shape == (11, 200)
    for order in orders.T:
        assert sorted(order) == list(range(11))
        moved = groups[order]
        for group in (1, 5, 7):
            assert len(set(moved[groups == group])) == 1  # all places of a group are taken by one group
        assert set(moved[groups == 1]) in ({1}, {5}, {7})
        assert set(moved[np.isin(groups, (3, 9))]) == {3, 9}
    # Each of the three trios is as often in the place of another as in its own.
    assert 40 < np.sum(groups[orders[0]] == 5) < 95


def test_pairs_are_swapped_within_too_and_the_seed_decides(rng):
    groups = np.repeat(np.arange(20), 2)
    orders = group_permutations(groups, 100, seed=3)
    first_of_pair = orders[::2] % 2 == 0
    assert 0.4 < first_of_pair.mean() < 0.6
    np.testing.assert_array_equal(orders, group_permutations(groups, 100, seed=3))
    assert (orders != group_permutations(groups, 100, seed=4)).any()


def test_statements_of_no_group_but_their_own_are_permuted_freely():
    orders = group_permutations(np.arange(4), 2000, seed=0)
    seen, counts = np.unique(orders.T, axis=0, return_counts=True)
    assert len(seen) == 24
    assert counts.min() > 40
