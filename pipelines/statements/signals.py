"""Signals: how far a count of something in the text tells trustworthy statements from others by itself."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from pipelines.estimators.estimate import Estimate, GroupBootstrap


def bootstrap_auroc(
    labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], bootstrap: GroupBootstrap
) -> Estimate:
    """The chance that a trustworthy statement scores above another one, with an interval that resamples groups.

    0.5 says nothing; far below it tells as much as far above. The interval is that of the placement values' mean
    (DeLong et al. 1988), so that it costs no sorting.
    """
    return bootstrap.proportion(placement_values(labels, scores), labels)


def placement_values(labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """A value per row whose mean is the AUROC, and whose scatter is its uncertainty.

    A row's placement is the chance that it and a row of the other class are in the right order (ties count half); its
    distance from the AUROC is weighted by how rare its class is.
    """
    ranks = rankdata(scores)
    placements = np.empty(len(scores))
    for label in (True, False):
        rows = labels == label
        above = (ranks[rows] - rankdata(scores[rows])) / np.sum(~rows)
        placements[rows] = above if label else 1 - above
    auroc = placements[labels].mean()
    share = np.where(labels, labels.mean(), 1 - labels.mean())
    return np.asarray(auroc + (placements - auroc) / share)
