"""The direction of a logistic regression: the normal of the plane that a linear probe divides the classes by."""

import numpy as np
import torch
from jaxtyping import Bool, Float32

from pipelines.estimators.logistic import fit_logistic
from pipelines.estimators.normalise import normalise

DIRECTION_PENALTY = 1e-2
"""C of the regression; the middle of a probe's candidates, which most folds choose."""


def probe_direction(
    features: Float32[np.ndarray, "n d_model"], labels: Bool[np.ndarray, " n"]
) -> Float32[np.ndarray, " d_model"]:
    """The weights of a regression with ``C = DIRECTION_PENALTY``, standardiser folded in, as a unit vector."""
    everyone = np.ones((len(labels), 1), bool)
    fit = fit_logistic(torch.tensor(features), labels[:, None], everyone, np.array([DIRECTION_PENALTY]))
    return normalise(fit.weights[:, 0].numpy(), "the regression has no weights")
