"""Features of a layer, standardised once, and what all regressions on them share."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipelines.estimators.reused_matrix import ReusedMatrix

GRAM_BLOCKS = 8
"""Of rows, of which each is multiplied by those up to its own: 9 of 16 products of a symmetric matrix."""


@dataclass(frozen=True, eq=False)
class StandardisedFeatures:
    """Features with mean 0 and standard deviation 1 over all rows, and what all regressions on them share.

    Where several calls fit the same features it is half of the work: make it once.
    """

    scaled: Float[Tensor, "n d"]
    """A constant feature is 0."""
    centre: Float[Tensor, " d"]
    spread: Float[Tensor, " d"]

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> "StandardisedFeatures":
        centre = features.mean(dim=0)
        centred = features - centre
        spread = centred.square().mean(dim=0).sqrt()  # of columns, torch's own takes four times as long
        spread = torch.where(spread > 1e-6 * centre.abs().clamp_min(1e-6), spread, torch.inf)
        return cls(centred.div_(spread), centre, spread)

    def projected(self, slopes: Float[Tensor, "k d"]) -> Float[Tensor, "k n"]:
        """The inner product of every row of ``slopes`` with every row of features."""
        return self._by_feature.after(slopes)

    def summed(self, shares: Float[Tensor, "k n"]) -> Float[Tensor, "k d"]:
        """For every row of ``shares`` the sum of the features' rows, each times its share."""
        return self._by_row.after(shares)

    @cached_property
    def _by_feature(self) -> ReusedMatrix:
        return ReusedMatrix(self.scaled.T)

    @cached_property
    def _by_row(self) -> ReusedMatrix:
        return ReusedMatrix(self.scaled)

    @property
    def is_wide(self) -> bool:
        return self.scaled.shape[1] > self.scaled.shape[0]

    @cached_property
    def gram(self) -> Tensor:
        """``[n, n]`` where there are more features than rows, else ``[d, d]`` over the number of rows.

        What lies above the diagonal is not all there.
        """
        if not self.is_wide:
            return self.scaled.T @ self.scaled / len(self.scaled)
        gram = self.scaled.new_zeros(len(self.scaled), len(self.scaled))
        for rows in torch.arange(len(gram)).chunk(GRAM_BLOCKS):
            first, after = int(rows[0]), int(rows[-1]) + 1
            gram[first:after, :after] = self.scaled[first:after] @ self.scaled[:after].T
        return gram

    def bound_factor(self, bend: float) -> Tensor:
        """The Cholesky factor of a bound on Hessians ``a ZᵀZ + I``, of which ``a`` is ``bend`` over the number of rows.

        ``[d, d]``, where there are more features than rows that of ``ZZᵀ + I / a``, ``[n, n]``. Factors are kept:
        candidates for C come back with other labels and rows.
        """
        if bend not in self._bound_factors:
            identity = torch.eye(len(self.gram), dtype=self.scaled.dtype, device=self.scaled.device)
            bound = self.gram + (len(self.scaled) / bend) * identity if self.is_wide else bend * self.gram + identity
            self._bound_factors[bend] = torch.linalg.cholesky(bound)
        return self._bound_factors[bend]

    @cached_property
    def _bound_factors(self) -> dict[float, Tensor]:
        return {}

    def moments(self, masks: Bool[np.ndarray, "n k"]) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k d"]]:
        """Means over the rows that each mask selects, and inverse standard deviations, 0 where there is none.

        Those of a mask are kept: candidates for C and shuffled labels share their rows.
        """
        keys = [mask.tobytes() for mask in masks.T]
        missing = {key: column for column, key in enumerate(keys) if key not in self._moments}
        if missing:
            mask = torch.tensor(masks.T[list(missing.values())], dtype=self.scaled.dtype, device=self.scaled.device)
            counts = mask.sum(dim=1, keepdim=True)
            means = self.summed(mask) / counts
            variances = (mask @ self._squares / counts - means.square()).clamp_min(0)
            inverse_stds = torch.where(variances > 1e-8, variances.rsqrt(), 0.0)
            self._moments.update(zip(missing, zip(means, inverse_stds, strict=True), strict=True))
        kept = [self._moments[key] for key in keys]
        return torch.stack([means for means, _ in kept]), torch.stack([inverse for _, inverse in kept])

    @cached_property
    def _squares(self) -> Float[Tensor, "n d"]:
        return self.scaled.square()

    @cached_property
    def _moments(self) -> dict[bytes, tuple[Float[Tensor, " d"], Float[Tensor, " d"]]]:
        return {}
