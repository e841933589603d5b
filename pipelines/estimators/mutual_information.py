"""Mutual information of a label and one number, by nearest neighbours: a cross-check of usable information.

The estimator of Ross (2014), which follows Kraskov, Stögbauer & Grassberger (2004), assumes nothing of the number's
distribution and holds in one dimension, which is why a held-out projection is what it is given.
"""

import numpy as np
from jaxtyping import Bool, Float
from sklearn.feature_selection import mutual_info_classif

NEIGHBOURS = 5


def neighbour_information_bits(
    projection: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], *, seed: int
) -> float:
    """Bits that ``projection`` and ``labels`` share; estimates below zero are reported as zero.

    ``seed`` draws the tiny noise that parts equal values.
    """
    nats = mutual_info_classif(
        projection[:, None], labels, discrete_features=False, n_neighbors=NEIGHBOURS, random_state=seed
    )
    return float(nats[0] / np.log(2))
