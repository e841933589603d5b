"""The principal direction of pair differences: RepE's reading vector (Zou et al., arXiv 2310.01405)."""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from pipelines.estimators.normalise import normalise


def principal_direction(
    features: Float32[np.ndarray, "n d_model"],
    labels: Bool[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
    *,
    seed: int = 0,
) -> Float32[np.ndarray, " d_model"]:
    """The axis that carries most of the squared length of ``pair_differences``, towards the trustworthy side.

    The differences are not centred: RepE gives each pair a random sign so that their mean is 0, which leaves the same
    second moment without the noise of the signs.
    """
    differences = pair_differences(features, labels, groups, seed=seed)
    axis = np.linalg.svd(differences, full_matrices=False)[2][0]
    return normalise(axis * np.sign(differences.mean(axis=0) @ axis), "the pairs differ to both sides alike")


def pair_differences(
    features: Float32[np.ndarray, "n d_model"],
    labels: Bool[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
    *,
    seed: int,
) -> Float64[np.ndarray, "pairs d_model"]:
    """Trustworthy less untrustworthy, one to one: within groups that hold both; drawn from all where no group does."""
    rng = np.random.default_rng(seed)
    mixed = np.intersect1d(groups[labels], groups[~labels])
    members = [np.flatnonzero(groups == group) for group in mixed] or [np.arange(len(labels))]
    pairs = []
    for rows in members:
        positive, negative = rows[labels[rows]], rows[~labels[rows]]
        n = min(len(positive), len(negative))
        pairs.append(np.stack([rng.permutation(positive)[:n], rng.permutation(negative)[:n]]))
    chosen = np.concatenate(pairs, axis=1)
    result: Float64[np.ndarray, "pairs d_model"] = features[chosen[0]].astype(np.float64) - features[chosen[1]]
    return result
