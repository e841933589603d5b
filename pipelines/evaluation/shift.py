"""How far steering moves a model's preference between trustworthy and untrustworthy statements."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from pipelines.estimators.estimate import Estimate, GroupBootstrap


def preference_shift(
    before: Float64[np.ndarray, " n"],
    after: Float64[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
) -> Estimate:
    """By how many nats the mean log-probability of trustworthy statements rose against that of untrustworthy ones.

    ``before`` and ``after`` are log-probabilities of the same statements, unsteered and steered; positive is the wanted
    direction. The interval resamples whole groups, of the difference of class means to first order: each statement's
    distance from its class mean, so that what moves both classes alike adds no uncertainty.
    """
    moved, n = after - before, len(labels)
    means = np.where(labels, moved[labels].mean(), moved[~labels].mean())
    weights = np.where(labels, n / labels.sum(), -n / (~labels).sum())
    value = float((weights * moved).mean())
    spread = GroupBootstrap(groups).mean(weights * (moved - means))
    return Estimate(value, value + spread.low, value + spread.high, n)
