"""Measurements of one condition on the items of one task: a row of numbers per item, and a statistic of their means."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from pipelines.estimators.estimate import Statistic, class_columns, difference_of_class_means, mean_of_first

CONSTANT_SHARE = 0.99
"""Whoever gives one answer this often has not looked at the question."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """One metric of one condition, item by item, so that another condition can be compared on the same items."""

    dimension: str
    """What is scored; not what was steered."""
    metric: str
    columns: Float64[np.ndarray, "n k"]
    groups: Int64[np.ndarray, " n"]
    """Items of one group are not independent."""
    wanted: int
    """1 where more is better, -1 where less is, 0 where neither is."""
    statistic: Statistic = mean_of_first
    answers: tuple[str, ...] = ()
    """What was answered, where an answer is one of a few; tells constant answerers."""

    @property
    def n(self) -> int:
        return len(self.columns)

    @property
    def n_groups(self) -> int:
        return len(np.unique(self.groups))

    @property
    def labels(self) -> Bool[np.ndarray, " n"] | None:
        """The classes, where the statistic compares them."""
        return self.columns[:, 1] == 1 if self.statistic is difference_of_class_means else None

    @property
    def value(self) -> float:
        return float(self.statistic(self.columns.mean(axis=0)))

    @property
    def is_binary(self) -> bool:
        """Whether each item is right or wrong, and the metric the share of those that are right."""
        return self.statistic is mean_of_first and bool(np.isin(self.columns, (0.0, 1.0)).all())

    @property
    def is_constant(self) -> bool:
        """Whether nearly every answer is the same one."""
        return bool(self.answers) and commonest_share(self.answers) >= CONSTANT_SHARE


def mean_of(
    dimension: str,
    metric: str,
    values: Sequence[float] | np.ndarray,
    groups: Int64[np.ndarray, " n"],
    wanted: int,
    answers: tuple[str, ...] = (),
) -> Measurement:
    """A metric that is the mean of one number an item."""
    columns = np.asarray(values, np.float64)[:, None]
    return Measurement(dimension, metric, columns, groups, wanted, answers=answers)


def margin_of(
    dimension: str,
    metric: str,
    log_probabilities: Float64[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
) -> Measurement:
    """Mean log-probability of trustworthy texts minus that of untrustworthy ones; what moves both alike cancels."""
    return Measurement(
        dimension, metric, class_columns(log_probabilities, labels), groups, 1, difference_of_class_means
    )


def perplexity_of_means(means: np.ndarray) -> np.ndarray:
    """Columns: negative log-probability and tokens of each text."""
    perplexity: np.ndarray = np.exp(means[..., 0] / means[..., 1])
    return perplexity


def commonest_share(answers: Sequence[str]) -> float:
    """How often the commonest answer is given: the majority-class rate, when these are the right answers."""
    _, counts = np.unique(np.array(answers), return_counts=True)
    return float(counts.max() / counts.sum())
