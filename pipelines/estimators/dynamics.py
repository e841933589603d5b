"""Dynamics of a concept over checkpoints: what changes with it, how it rises, and whether it is the same one later."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from scipy.stats import norm

from pipelines.estimators.estimate import CONFIDENCE, Estimate, GroupBootstrap

TREND = 2
"""Degree of the trend that changes are freed of: of two curves that both saturate, early changes are large in both."""
INFLATION = 1.5
"""Variance of a correlation of changes, over that of independent pairs: noise of one checkpoint is in two changes, of
either sign (Bartlett 1935)."""


@dataclass(frozen=True)
class Correlation:
    """A correlation over ``n`` checkpoints with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    @property
    def can_be_told(self) -> bool:
        """Whether so many checkpoints exclude anything."""
        return self.high - self.low < 2

    def __str__(self) -> str:
        return f"{self.value:+z.2f} [{self.low:+z.2f}, {self.high:+z.2f}]" if self.can_be_told else "cannot be told"


def change_correlation(first: Float[np.ndarray, " steps"], second: Float[np.ndarray, " steps"]) -> Correlation:
    """Pearson's correlation of two curves' changes between checkpoints, freed of a quadratic trend in them.

    Levels of unrelated curves that both rise, or both wander, correlate by themselves (Granger & Newbold 1974): only
    what moves together from one checkpoint to the next is evidence.
    """
    n = len(first)
    independent = (n - 1 - (TREND + 1)) / INFLATION
    if n - 1 <= TREND + 1:
        return Correlation(float("nan"), -1.0, 1.0, n)
    trend, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, n - 1), TREND + 1))
    changes = [curve - trend @ (trend.T @ curve) for curve in (np.diff(first), np.diff(second))]
    lengths = [float(np.linalg.norm(change)) for change in changes]
    if min(lengths) <= 1e-9 * max(float(np.abs(first).max()), float(np.abs(second).max()), 1e-300):
        return Correlation(float("nan"), -1.0, 1.0, n)
    value = float(np.clip(changes[0] @ changes[1] / (lengths[0] * lengths[1]), -1, 1))
    if independent <= 2:
        return Correlation(value, -1.0, 1.0, n)
    centre = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))
    half = norm.ppf((1 + CONFIDENCE) / 2) / np.sqrt(independent - 2)
    return Correlation(value, float(np.tanh(centre - half)), float(np.tanh(centre + half)), n)


def step_of_rise(steps: Sequence[int], values: Float[np.ndarray, " steps"], share: float = 0.95) -> int | None:
    """The first step at which ``share`` of the rise from the first value to the highest is done; ``None`` for none."""
    first, highest = float(values[0]), float(values.max())
    if not highest > first:
        return None
    return steps[int(np.argmax(values >= first + share * (highest - first)))]


def transfer_accuracy(
    states: Iterable[Float32[np.ndarray, "n d_model"]],
    weights: Sequence[Float32[np.ndarray, "folds d_model"]],
    biases: Sequence[Float32[np.ndarray, " folds"]],
    labels: Bool[np.ndarray, " n"],
    folds: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
) -> tuple[tuple[Estimate, ...], ...]:
    """Accuracy of the probes fitted at each checkpoint on the activations of each: rows fitted, columns applied.

    Probe ``k`` of a checkpoint was fitted without fold ``k``, and predicts that fold alone; rows in no fold (-1) are
    not predicted.
    """
    tested = folds >= 0
    bootstrap = GroupBootstrap(groups[tested], fitted=True)
    columns = []
    for features in states:  # which may be read one after the other
        seen, fold = features[tested], folds[tested]
        logits = [
            np.einsum("nd,nd->n", seen, slopes[fold]) + offsets[fold]
            for slopes, offsets in zip(weights, biases, strict=True)
        ]
        columns.append([bootstrap.proportion(((scores > 0) == labels[tested]).astype(np.float64)) for scores in logits])
    return tuple(zip(*columns, strict=True))
