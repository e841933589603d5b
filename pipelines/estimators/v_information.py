"""Usable information in bits: what a linear probe gains about the label from activations it has not seen.

``H(Y)`` minus the probe's held-out cross-entropy is a lower bound on mutual information (Barber & Agakov 2003), and is
V-information for linear V (Xu et al. 2020). It is negative where a probe does worse than the labels' frequencies.
"""

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from pipelines.estimators.scores import SMALLEST_PROBABILITY


def label_entropy_bits(labels: Bool[np.ndarray, " n"]) -> float:
    """Entropy of the labels' frequencies: 1 bit where the classes are balanced."""
    share = float(labels.mean())
    return -sum(part * float(np.log2(part)) for part in (share, 1 - share) if part > 0)


def usable_information(
    labels: Bool[np.ndarray, " n"], probabilities: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Bits that a held-out prediction tells of each statement's label; their mean is the usable information."""
    result: Float[np.ndarray, " n"] = label_entropy_bits(labels) - _surprise_bits(labels, probabilities)
    return result


def conditional_information(
    labels: Bool[np.ndarray, " n"],
    probabilities: Float[np.ndarray, " n"],
    baseline: Float[np.ndarray, " n"],
    folds: Int64[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Bits of each statement's label that a probe adds to a baseline which never saw the model.

    Both sets of probabilities are held-out. On the other folds a regression learns to weigh the baseline's logit, alone
    and together with the probe's; the difference on the fold left out is what activations add. Stacking two logits,
    rather than probing the baseline's logit among thousands of activations, leaves the baseline unpenalised.
    """
    alone = _held_out(labels, np.stack([_logits(baseline)], axis=1), folds)
    both = _held_out(labels, np.stack([_logits(baseline), _logits(probabilities)], axis=1), folds)
    gained: Float[np.ndarray, " n"] = _surprise_bits(labels, alone) - _surprise_bits(labels, both)
    return gained


def _surprise_bits(labels: Bool[np.ndarray, " n"], probabilities: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    likelihoods = np.where(labels, probabilities, 1 - probabilities)
    result: Float[np.ndarray, " n"] = -np.log2(likelihoods.clip(SMALLEST_PROBABILITY, 1))
    return result


def _logits(probabilities: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    result: Float[np.ndarray, " n"] = logit(probabilities.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))
    return result


def _held_out(
    labels: Bool[np.ndarray, " n"], inputs: Float[np.ndarray, "n k"], folds: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    result = np.empty(len(labels))
    for fold in np.unique(folds):
        test = folds == fold
        regression = LogisticRegression(C=10.0, max_iter=1000).fit(inputs[~test], labels[~test])
        result[test] = expit(regression.decision_function(inputs[test]))
    return result
