"""The whitened direction: linear discriminant analysis, which discounts axes along which a class scatters anyway."""

import numpy as np
from jaxtyping import Bool, Float32
from sklearn.covariance import ledoit_wolf

from pipelines.estimators.normalise import normalise


def lda_direction(
    features: Float32[np.ndarray, "n d_model"], labels: Bool[np.ndarray, " n"]
) -> Float32[np.ndarray, " d_model"]:
    """The inverse of the within-class covariance times the difference of class means, as a unit vector.

    The covariance is shrunk towards a sphere as Ledoit and Wolf (2004) estimate, so that it has an inverse with fewer
    statements than dimensions.
    """
    means = np.stack([features[labels == kind].mean(axis=0, dtype=np.float64) for kind in (False, True)])
    covariance, _ = ledoit_wolf(features - means[labels.astype(int)], assume_centered=True)
    difference = means[1] - means[0]
    # Classes without any scatter leave nothing to whiten by.
    whitened = np.linalg.solve(covariance, difference) if np.trace(covariance) > 0 else difference
    return normalise(whitened, "the class means coincide")
