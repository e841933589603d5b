"""Splits that keep groups together, and the paper's split, which does not."""

import warnings
from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from registry.counts import counted
from registry.errors import InvalidInput


def group_folds(
    groups: Int64[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], n_folds: int, seed: int
) -> Int64[np.ndarray, " n"]:
    """The fold of every statement: no group in two folds, both classes balanced as far as the groups allow.

    Raises ``InvalidInput`` when there are fewer groups than folds, or a fold would lack a class.
    """
    n_groups = len(np.unique(groups))
    if n_groups < n_folds:
        raise InvalidInput(
            f"{counted(n_groups, 'group')} cannot be split into {n_folds} folds; give more groups, or no group "
            "column if the statements are independent"
        )
    given = groups.astype(np.int64).tobytes(), labels.astype(bool).tobytes()
    return np.frombuffer(_folds(*given, n_folds, seed), np.int64).copy()


@lru_cache(maxsize=64)
def _folds(groups: bytes, labels: bytes, n_folds: int, seed: int) -> bytes:
    """Of equal groups and labels computed once: statements are inspected, probed and calibrated in the same folds."""
    grouped, labelled = np.frombuffer(groups, np.int64), np.frombuffer(labels, bool)
    folds = np.empty(len(grouped), np.int64)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # refused below, in a sentence
        for fold, (_, test) in enumerate(splitter.split(np.zeros(len(grouped)), labelled, grouped)):
            folds[test] = fold
    counts = np.array(
        [[np.sum(labelled[folds == fold] == label) for label in (False, True)] for fold in range(n_folds)]
    )
    if (counts == 0).any():
        raise InvalidInput(
            f"a fold of {counted(len(np.unique(grouped)), 'group')} holds one class only (untrustworthy and "
            f"trustworthy counts by fold: {counts.tolist()}); give more statements of the rarer class"
        )
    return folds.tobytes()


def sequential_split(n: int, train_ratio: float) -> tuple[Int64[np.ndarray, " n_train"], Int64[np.ndarray, " n_test"]]:
    """The first ``int(n * train_ratio)`` rows and the rest: the paper's split, in file order and blind to groups."""
    n_train = int(n * train_ratio)
    return np.arange(n_train), np.arange(n_train, n)


def group_leakage(
    groups: Int64[np.ndarray, " n"], train: Int64[np.ndarray, " n_train"], test: Int64[np.ndarray, " n_test"]
) -> float:
    """The share of test rows whose group also has a training row."""
    return float(np.isin(groups[test], groups[train]).mean())


def connected_groups(*keys: Sequence[Hashable | None]) -> Int64[np.ndarray, " n"]:
    """Groups of rows that share a key of any kind, directly or through other rows, numbered by first appearance.

    Rows that share a pair or a text belong together even where the user's group column parts them. ``None`` ties
    nothing.
    """
    n = len(keys[0])
    nodes: dict[tuple[int, Hashable], int] = {}
    edges = [
        (row, nodes.setdefault((kind, key), n + len(nodes)))
        for kind, column in enumerate(keys)
        for row, key in enumerate(column)
        if key is not None
    ]
    ends = np.array(edges, np.int64).reshape(-1, 2)
    size = n + len(nodes)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(size, size))
    groups: Int64[np.ndarray, " n"] = connected_components(graph, directed=False)[1][:n].astype(np.int64)
    return groups


def whole_groups(groups: Int64[np.ndarray, " n"], limit: int, seed: int) -> Int64[np.ndarray, " m"]:
    """About ``limit`` rows in their order: whole groups, drawn at random until there are enough."""
    ids, members = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(ids))
    enough = int(np.searchsorted(np.cumsum(np.bincount(members)[order]), limit)) + 1
    return np.flatnonzero(np.isin(members, order[:enough]))
