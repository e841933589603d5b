"""Estimates: a number never travels without its interval and its n, and this module alone makes intervals.

Statements of one group (a pair, a question, a context) are not independent, so groups are what is resampled and
counted. Four rules follow for every interval:

* Means and other statistics of column means get a bootstrap-t interval (Efron & Tibshirani 1993, section 12.5) that is
  nowhere narrower than Student's. Where classes are compared, the degrees of freedom are Welch's: those of the rarer
  class's groups weigh as its scatter does.
* Proportions get Wilson's interval for the number of independent statements that would scatter as the groups do (Korn
  & Graubard 1998). At 0 and 1 the rule of three bounds them (Hanley & Lippman-Hand 1983).
* Means of a few independent values, such as one a seed, get Student's interval.
* One group says nothing of others: the interval is everything that the quantity may be.

``python -m tests.simulate intervals`` prints how often they hold the truth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.special import stdtrit
from scipy.stats import t as student

RESAMPLES = 1000
CONFIDENCE = 0.95
QUANTILE, POWER_QUANTILE = 1.9600, 0.8416
"""Of the normal distribution: that of the interval's ends, and that of 80 %."""
FITTING_SPREAD = 1.3
"""Standard error of cross-validated accuracy over that of its test statements alone: refitting on other statements
adds to it. Simulation finds 1.06 to 1.35; the bound of Nadeau & Bengio (2003) is 1.5 for five folds."""
FARTHEST = 3.0
"""A bootstrap-t quantile counts up to so many of Student's: resamples of few groups may have no spread at all."""
FEWEST_GROUPS = 2
FEWEST_FOR_WELCH = 3
"""Groups of the rarer class. Two that happen to be alike would count for nothing: of intervals beside 40 groups of the
other class 14 % miss the truth, in simulation; with the one degree of freedom that two groups have, under 1 %."""
ROUNDING = 1e-10
"""An error that is this small beside what cancels in it is none."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""From the means of ``k`` columns, ``[..., k]``, to one number, ``[...]``."""


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

    @property
    def detectable(self) -> float:
        """The smallest effect whose interval would exclude 0 in 80 % of such samples: beside a null, what it leaves
        possible."""
        return (POWER_QUANTILE + QUANTILE) / (2 * QUANTILE) * (self.high - self.low)

    def __str__(self) -> str:
        return f"{self.value:z.3f} [{self.low:z.3f}, {self.high:z.3f}]"


def mean_of_first(means: np.ndarray) -> np.ndarray:
    return means[..., 0]


def difference_of_class_means(means: np.ndarray) -> np.ndarray:
    """Of ``class_columns``; not a number where a class is missing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        difference: np.ndarray = means[..., 0] / means[..., 1] - means[..., 2] / means[..., 3]
    return difference


def class_columns(values: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> Float64[np.ndarray, "n 4"]:
    """The columns whose means ``difference_of_class_means`` takes."""
    return np.stack([values * labels, labels, values * ~labels, ~labels], axis=1).astype(np.float64)


class GroupBootstrap:
    """Intervals of quantities of the same statements, resampling whole groups.

    ``fitted`` says that every statement was predicted by a classifier fitted on the others, whose own chance then
    widens the interval by ``FITTING_SPREAD``. The resamples are drawn once for all.
    """

    def __init__(
        self, groups: Int64[np.ndarray, " n"], *, fitted: bool = False, seed: int = 0, resamples: int = RESAMPLES
    ) -> None:
        _, self._members = np.unique(groups, return_inverse=True)
        self._counts = np.bincount(self._members).astype(np.float64)
        self._weights = _draws(len(self._counts), seed, resamples)
        self._spread = FITTING_SPREAD if fitted else 1.0

    @property
    def n(self) -> int:
        return len(self._members)

    @property
    def n_groups(self) -> int:
        return len(self._counts)

    def mean(self, values: Float[np.ndarray, " n"]) -> Estimate:
        """The mean of ``values``, which may be any numbers."""
        return self.statistic(np.asarray(values, np.float64)[:, None], mean_of_first)

    def proportion(self, values: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"] | None = None) -> Estimate:
        """The mean of ``values``, which lies between 0 and 1: a share, an accuracy, an AUROC's placement values.

        ``labels`` are given where the quantity compares the two classes.
        """
        value = float(np.mean(values))
        if self._fewest(labels) < FEWEST_GROUPS:
            return Estimate(value, 0.0, 1.0, self.n)
        influences = np.bincount(self._members, weights=np.asarray(values) - value) / self.n
        error, freedom = self._error(influences, labels)
        if error < 1e-12:
            farthest = rule_of_three(self._fewest(labels))
            return Estimate(value, max(value - farthest, 0.0), min(value + farthest, 1.0), self.n)
        independent = min(value * (1 - value) / error**2, self.n)
        low, high = _wilson(value, independent, _student(freedom))
        return Estimate(value, low, high, self.n)

    def statistic(
        self,
        columns: Float64[np.ndarray, "n k"],
        statistic: Statistic,
        *,
        labels: Bool[np.ndarray, " n"] | None = None,
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> Estimate:
        """``statistic`` of the means of ``columns``; ``labels`` are given where it compares the two classes."""
        totals = np.stack([*(np.bincount(self._members, weights=column) for column in columns.T), self._counts], axis=1)
        value = float(_of_totals(statistic, totals.sum(axis=0)))
        if self._fewest(labels) < FEWEST_GROUPS:
            return Estimate(value, *bounds, self.n)
        (slopes,) = _slopes(statistic, totals, np.ones((1, len(totals))))
        error, freedom = self._error(totals @ slopes, labels)
        if error < ROUNDING * float((np.abs(totals) @ np.abs(slopes)).sum()):
            return Estimate(value, value, value, self.n)
        errors = _errors(totals, self._weights, _slopes(statistic, totals, self._weights))
        with np.errstate(invalid="ignore", divide="ignore"):
            scores = (_of_totals(statistic, self._weights @ totals) - value) / errors
        below, above = _tails(scores, _student(freedom))
        low, high = np.clip((value - above * error, value - below * error), *bounds)
        return Estimate(value, float(low), float(high), self.n)

    def _fewest(self, labels: Bool[np.ndarray, " n"] | None) -> int:
        """Groups, or those that hold the rarer class."""
        return self.n_groups if labels is None else int(self._holding(labels).sum(axis=0).min())

    def _holding(self, labels: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, "groups classes"]:
        """Statements of each class in each group, as 0 or 1."""
        counts = [np.bincount(self._members[labels == kind], minlength=self.n_groups) for kind in (False, True)]
        return np.stack(counts, axis=1).clip(max=1)

    def _error(
        self, influences: Float64[np.ndarray, " groups"], labels: Bool[np.ndarray, " n"] | None
    ) -> tuple[float, float]:
        """Standard error and degrees of freedom: Welch's, a group of both classes counting half to each."""
        held = np.ones((self.n_groups, 1)) if labels is None else self._holding(labels)
        groups = held.sum(axis=0)
        shares = held / held.sum(axis=1, keepdims=True)
        variances = groups / (groups - 1) * (np.square(influences) @ shares)
        total = float(variances.sum())
        fewest = float(groups.min() - 1)
        freedom = total**2 / float((variances**2 / (groups - 1)).sum()) if total > 0 else fewest
        if groups.min() < FEWEST_FOR_WELCH:
            freedom = min(freedom, fewest)
        return self._spread * total**0.5, min(freedom, self.n_groups - 1)


def mean_of_few(
    values: Sequence[float], bounds: tuple[float, float] = (-np.inf, np.inf), resolution: float = 0.0
) -> Estimate:
    """The mean of independent values, such as one a seed, with Student's interval; of one value it is ``bounds``.

    Values that are told to a ``resolution``, such as shares of n statements to 1/n, may be equal by rounding: they
    scatter at least as rounding does, whose standard deviation is the resolution over the root of 12 (Sheppard 1898).
    """
    value, n = float(np.mean(values)), len(values)
    if n < FEWEST_GROUPS:
        return Estimate(value, *bounds, n)
    scatter = max(float(np.std(values, ddof=1)), resolution / 12**0.5)
    half = _student(n - 1) * scatter / n**0.5
    return Estimate(value, max(value - half, bounds[0]), min(value + half, bounds[1]), n)


def prediction_bound(values: Sequence[float], chance: float) -> float:
    """What one more draw of the same kind as ``values`` exceeds with this ``chance``, were they normal (Student's)."""
    n = len(values)
    if n < FEWEST_GROUPS:
        return float("inf")
    spread = float(np.std(values, ddof=1)) * float(1 + 1 / n) ** 0.5
    return float(np.mean(values) + student.isf(chance, n - 1) * spread)


def rule_of_three(groups: int) -> float:
    """The largest share that ``groups`` independent ones without a single case leave possible, at 95 %."""
    return float(1 - (1 - CONFIDENCE) ** (1 / groups)) if groups else 1.0


@lru_cache(maxsize=4)
def _draws(n_groups: int, seed: int, resamples: int) -> Float64[np.ndarray, "resamples groups"]:
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples).astype(np.float64)
    drawn.setflags(write=False)
    return drawn


def _student(freedom: float) -> float:
    """The quantile that scipy.stats gives too, which looks at its arguments for 200 times as long."""
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _of_totals(statistic: Statistic, totals: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return statistic(totals[..., :-1] / totals[..., -1:])


def _slopes(
    statistic: Statistic, totals: Float64[np.ndarray, "groups k"], weights: Float64[np.ndarray, "resamples groups"]
) -> Float64[np.ndarray, "resamples k"]:
    """The statistic's derivatives by each total, on each resample."""
    resampled = weights @ totals
    steps = 1e-5 * np.sqrt(np.square(totals).sum(axis=0)) + 1e-300
    return np.stack(
        [
            (_of_totals(statistic, resampled + move) - _of_totals(statistic, resampled - move)) / (2 * step)
            for step, move in zip(steps, np.diag(steps), strict=True)
        ],
        axis=1,
    )


def _errors(
    totals: Float64[np.ndarray, "groups k"],
    weights: Float64[np.ndarray, "resamples groups"],
    slopes: Float64[np.ndarray, "resamples k"],
) -> Float64[np.ndarray, " resamples"]:
    """The delta method's standard error on each resample."""
    groups, k = totals.shape
    products = (weights @ (totals[:, :, None] * totals[:, None, :]).reshape(groups, -1)).reshape(-1, k, k)
    variances = np.einsum("rk,rkl,rl->r", slopes, products, slopes)
    errors: Float64[np.ndarray, " resamples"] = np.sqrt(groups / (groups - 1) * np.maximum(variances, 0.0))
    return errors


def _tails(scores: Float64[np.ndarray, " resamples"], least: float) -> tuple[float, float]:
    """Both quantiles of bootstrap-t, between Student's and ``FARTHEST`` times as far out."""
    usable = scores[~np.isnan(scores)]
    if not len(usable):
        return -least, least
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(usable, (tail, 1 - tail), method="inverted_cdf")
    return -float(np.clip(-low, least, FARTHEST * least)), float(np.clip(high, least, FARTHEST * least))


def _wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    weight = quantile**2 / n
    centre = (share + weight / 2) / (1 + weight)
    half = quantile / (1 + weight) * np.sqrt(share * (1 - share) / n + weight / (4 * n))
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))
