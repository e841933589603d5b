"""The mass-mean direction: the difference between the class means of activations (arXiv 2402.19465, equation 1)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from registry.errors import InvalidInput

ROUNDING = 1e-6
"""A difference of means so small beside the activations is what adding in another order makes."""


class MeansCoincide(InvalidInput):
    """There is no direction between two classes."""


@dataclass(frozen=True)
class MassMean:
    """A direction from untrustworthy to trustworthy, and the spread of activations along it."""

    direction: Float32[np.ndarray, " d_model"]
    """Unit vector."""
    mean_difference_norm: float
    """Length of the raw difference of means: ``direction * mean_difference_norm`` is the paper's equation 1."""
    scale: float
    """Standard deviation (ddof 1) of the fitting activations' projections: one unit of strength."""
    projection_mean: float
    """Mean projection of the fitting activations."""

    def projections(self, features: Float32[np.ndarray, "n d_model"]) -> Float32[np.ndarray, " n"]:
        """Signed distance of each row from the fitting mean along the direction, in standard deviations."""
        result: Float32[np.ndarray, " n"] = (features @ self.direction - self.projection_mean) / self.scale
        return result


def fit_mass_mean(features: Float32[np.ndarray, "n d_model"], labels: Bool[np.ndarray, " n"]) -> MassMean:
    """The mass-mean direction of labelled activations at one layer.

    The paper's released code multiplies the unit direction by the standard deviation of *all* projections, test rows
    included; here both come from the rows given, which should be training rows. ``MeansCoincide`` if the class means
    do, as where the last token alone decides the activation.
    """
    difference = features[labels].mean(axis=0, dtype=np.float64) - features[~labels].mean(axis=0, dtype=np.float64)
    norm = float(np.linalg.norm(difference))
    if not norm > ROUNDING * float(np.abs(features).max(initial=0)):
        raise MeansCoincide(
            f"the class means of {labels.sum()} trustworthy and {(~labels).sum()} untrustworthy statements coincide at "
            "this layer: there is no direction between them"
        )
    direction = (difference / norm).astype(np.float32)
    projections = features @ direction
    return MassMean(direction, norm, float(projections.std(ddof=1)), float(projections.mean()))
