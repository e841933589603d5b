"""How far steering moves a model's preference between statements, and what it costs on ordinary prose."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.model_io.likelihoods import Likelihoods


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


def perplexity_ratio(before: Likelihoods, after: Likelihoods) -> Estimate:
    """Perplexity of ``after`` over that of ``before``, by token, on the same texts.

    The interval resamples texts, of the logarithm of the ratio to first order: each text's distance from what its
    number of tokens would make it, so that long texts weigh more and what they share adds no uncertainty.
    """
    lost, tokens = before.log_probabilities - after.log_probabilities, before.tokens
    log_ratio = float(lost.sum() / tokens.sum())
    spread = GroupBootstrap(np.arange(len(tokens))).mean((lost - log_ratio * tokens) / tokens.mean())
    value, low, high = np.exp([log_ratio, log_ratio + spread.low, log_ratio + spread.high])
    return Estimate(float(value), float(low), float(high), len(tokens))
