"""A number with its uncertainty: an estimate never travels without its interval and its n."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A point estimate with its 95 % interval over ``n`` statements."""

    value: float
    low: float
    high: float
    n: int

    def above(self, other: "Estimate") -> bool:
        """Whether this interval lies wholly above the other."""
        return self.low > other.high

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class GroupBootstrap:
    """Percentile bootstrap intervals of means, resampling whole groups.

    Statements of one group (a pair, a question, a context) are not independent: resampling them singly would make the
    interval too narrow. The resamples are drawn once, and serve every mean over the same statements.
    """

    def __init__(self, groups: Int64[np.ndarray, " n"], *, seed: int = 0, resamples: int = RESAMPLES) -> None:
        _, self._members = np.unique(groups, return_inverse=True)
        self._counts = np.bincount(self._members)
        n_groups = len(self._counts)
        rng = np.random.default_rng(seed)
        self._weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples).astype(np.float64)
        self._sizes = self._weights @ self._counts

    def mean(self, values: Float[np.ndarray, " n"], confidence: float = CONFIDENCE) -> Estimate:
        """The mean of ``values`` with its interval; with one group that is the point itself."""
        means = (self._weights @ np.bincount(self._members, weights=values)) / self._sizes
        tail = (1 - confidence) / 2
        low, high = np.quantile(means, (tail, 1 - tail))
        return Estimate(float(np.mean(values)), float(low), float(high), len(values))


def group_bootstrap_mean(values: Float[np.ndarray, " n"], groups: Int64[np.ndarray, " n"], *, seed: int) -> Estimate:
    """The mean of ``values`` with its interval, where one mean is all that is wanted."""
    return GroupBootstrap(groups, seed=seed).mean(values)
