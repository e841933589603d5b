"""The mean-centred direction: trustworthy statements against ordinary text (Jorgensen et al., arXiv 2312.03813)."""

import numpy as np
from jaxtyping import Bool, Float32

from pipelines.estimators.normalise import normalise


def mean_centred_direction(
    features: Float32[np.ndarray, "n d_model"],
    labels: Bool[np.ndarray, " n"],
    background: Float32[np.ndarray, "m d_model"],
) -> Float32[np.ndarray, " d_model"]:
    """The mean of trustworthy statements less the mean of ``background``, activations of ordinary text; a unit vector.

    Untrustworthy statements are not looked at, so it also holds whatever else sets the statements apart from prose.
    """
    difference = features[labels].mean(axis=0, dtype=np.float64) - background.mean(axis=0, dtype=np.float64)
    return normalise(difference, "the trustworthy statements and the ordinary text have the same mean")
