"""Scores of predicted probabilities against labels: AUROC, cross-entropy and calibration error."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

CALIBRATION_BINS = 10
SMALLEST_PROBABILITY = 1e-6
"""Probabilities are kept this far from 0 and 1, so that one confident mistake costs at most 20 bits."""


def auroc(labels: Bool[np.ndarray, " n"], probabilities: Float[np.ndarray, " n"]) -> float:
    """The chance that a trustworthy statement scores above an untrustworthy one, ties counted half; NaN without both.

    By ranks (Hanley and McNeil 1982): what scikit-learn's ``roc_auc_score`` says, without its checks of every argument.
    """
    positive = int(labels.sum())
    negative = len(labels) - positive
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(probabilities)[labels].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def cross_entropy_bits(labels: Bool[np.ndarray, " n"], probabilities: Float[np.ndarray, " n"]) -> float:
    """Mean surprise at the labels, in bits; 1 is what always answering one half costs."""
    likelihoods = np.where(labels, probabilities, 1 - probabilities)
    return float(-np.log2(likelihoods.clip(SMALLEST_PROBABILITY, 1)).mean())


def calibration_error(labels: Bool[np.ndarray, " n"], probabilities: Float[np.ndarray, " n"]) -> float:
    """Expected calibration error over equally filled bins (Naeini et al. 2015; adaptive bins, Nixon et al. 2019).

    Equal probabilities share a bin, so that the order of the statements decides nothing.
    """
    n = len(labels)
    bins = (rankdata(probabilities, method="min").astype(np.int64) - 1) * min(CALIBRATION_BINS, n) // n
    return float(np.abs(np.bincount(bins, weights=labels - probabilities)).sum() / n)
