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


def group_bootstrap_mean(
    values: Float[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
    *,
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The mean of ``values`` with a percentile bootstrap interval that resamples whole groups.

    Statements of one group (a pair, a question, a context) are not independent: resampling them singly would make the
    interval too narrow. With one group the interval is the point itself.
    """
    weights = _resampled_group_weights(groups, resamples, seed)
    _, members = np.unique(groups, return_inverse=True)
    totals = np.bincount(members, weights=values)
    counts = np.bincount(members)
    means = (weights @ totals) / (weights @ counts)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Estimate(float(np.mean(values)), float(low), float(high), len(values))


def _resampled_group_weights(
    groups: Int64[np.ndarray, " n"], resamples: int, seed: int
) -> Int64[np.ndarray, "resamples n_groups"]:
    """How often each group is drawn in each resample."""
    n_groups = len(np.unique(groups))
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples)
