"""Preference of a model for trustworthy statements, by their likelihoods alone: as it stands, and moved by steering."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from pipelines.estimators.estimate import Estimate, GroupBootstrap, class_columns, difference_of_class_means


def has_counterparts(labels: Bool[np.ndarray, " n"], sets: Int64[np.ndarray, " n"]) -> bool:
    """Whether every set (a pair, a question, a context) holds statements of both classes."""
    return all(len(set(labels[sets == number].tolist())) == 2 for number in np.unique(sets))


def preferred_share(
    log_probabilities: Float64[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    sets: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
) -> Estimate:
    """How often a trustworthy statement is likelier than an untrustworthy one of its set; ties count half.

    Every set counts once; the interval resamples ``groups``, which hold whole sets.
    """
    shares, within = [], []
    for number in np.unique(sets):
        rows = np.flatnonzero(sets == number)
        trustworthy, others = log_probabilities[rows[labels[rows]]], log_probabilities[rows[~labels[rows]]]
        shares.append(float((np.sign(np.subtract.outer(trustworthy, others)).mean() + 1) / 2))
        within.append(groups[rows[0]])
    return GroupBootstrap(np.array(within)).proportion(np.array(shares))


def preference_shift(
    before: Float64[np.ndarray, " n"],
    after: Float64[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
) -> Estimate:
    """By how many nats the mean log-probability of trustworthy statements rose against that of untrustworthy ones.

    ``before`` and ``after`` are log-probabilities of the same statements, unsteered and steered; positive is the wanted
    direction. The interval resamples whole groups; a move of both classes alike adds no uncertainty.
    """
    columns = class_columns(after - before, labels)
    return GroupBootstrap(groups).statistic(columns, difference_of_class_means, labels=labels)
