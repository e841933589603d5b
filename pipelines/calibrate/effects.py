"""How far steering moves a model's preference between statements, and what it costs on ordinary prose."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from pipelines.estimators.estimate import Estimate, GroupBootstrap, class_columns, difference_of_class_means
from pipelines.model_io.likelihoods import Likelihoods


def preference_shift(
    before: Float64[np.ndarray, " n"],
    after: Float64[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
) -> Estimate:
    """By how many nats the mean log-probability of trustworthy statements rose against that of untrustworthy ones.

    ``before`` and ``after`` are log-probabilities of the same statements, unsteered and steered; positive is the wanted
    direction. The interval resamples whole groups; what moves both classes alike adds no uncertainty.
    """
    columns = class_columns(after - before, labels)
    return GroupBootstrap(groups).statistic(columns, difference_of_class_means, labels=labels)


def perplexity_ratio(before: Likelihoods, after: Likelihoods) -> Estimate:
    """Perplexity of ``after`` over that of ``before``, by token, on the same texts.

    The interval is made of the logarithm of the ratio; it resamples texts, of which long ones weigh more.
    """
    lost, tokens = before.log_probabilities - after.log_probabilities, before.tokens
    columns = np.stack([lost, tokens], axis=1).astype(np.float64)
    log_ratio = GroupBootstrap(np.arange(len(tokens))).statistic(columns, lambda means: means[..., 0] / means[..., 1])
    value, low, high = np.exp([log_ratio.value, log_ratio.low, log_ratio.high])
    return Estimate(float(value), float(low), float(high), len(tokens))
