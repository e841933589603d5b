"""Group permutations: orders of statements under which a null hypothesis leaves everything as it was."""

import numpy as np
from jaxtyping import Int64


def group_permutations(groups: Int64[np.ndarray, " n"], count: int, seed: int) -> Int64[np.ndarray, "n count"]:
    """Orders in which whole groups change places with groups of their size, and statements within their group.

    Statements of one group (a pair, a context) are not independent; permuting them freely would make the null too
    narrow (multi-level exchangeability, Winkler et al. 2015). Groups of one statement each are permuted freely. A
    group whose size no other has stays where it is.
    """
    _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    by_group = np.split(np.argsort(members, kind="stable"), np.cumsum(sizes)[:-1])
    blocks = [np.stack([rows for rows in by_group if len(rows) == size]) for size in np.unique(sizes)]
    rng = np.random.default_rng(seed)
    orders = np.empty((len(groups), count), np.int64)
    for column in range(count):
        for block in blocks:
            moved = rng.permuted(block[rng.permutation(len(block))], axis=1)
            orders[block.ravel(), column] = moved.ravel()
    return orders
