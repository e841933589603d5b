"""When a concept becomes readable, and whether it is the same one from then on."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from scipy.stats import spearmanr

from pipelines.estimators.estimate import Estimate


def onset(steps: Sequence[int], estimates: Sequence[Estimate], control: Estimate) -> int | None:
    """The first step whose interval lies wholly above the control's, or ``None``."""
    above = (step for step, one in zip(steps, estimates, strict=True) if one.above(control))
    return next(above, None)


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
) -> Float[np.ndarray, "fitted applied"]:
    """Accuracy of the probes fitted at each checkpoint on the activations of each: rows fitted, columns applied.

    Probe ``k`` of a checkpoint was fitted without fold ``k``, and predicts that fold alone; rows in no fold (-1) are
    not predicted.
    """
    tested = folds >= 0
    columns = []
    for features in states:  # which may be read one after the other
        seen, fold = features[tested], folds[tested]
        logits = [
            np.einsum("nd,nd->n", seen, slopes[fold]) + offsets[fold]
            for slopes, offsets in zip(weights, biases, strict=True)
        ]
        columns.append([float(np.mean((one > 0) == labels[tested])) for one in logits])
    return np.array(columns).T


def cosines(directions: Sequence[Float32[np.ndarray, " d_model"]]) -> Float[np.ndarray, "n n"]:
    """Cosine of every two directions; 0 with one that has no length."""
    matrix = np.stack(directions).astype(np.float64)
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    between: Float[np.ndarray, "n n"] = unit @ unit.T
    return between


def rank_correlation(one: Float[np.ndarray, "layers steps"], other: Float[np.ndarray, "layers steps"]) -> float:
    """Spearman's correlation of two quantities over the steps, mean over layers; not a number where one is constant."""
    varying = [(a, b) for a, b in zip(one, other, strict=True) if np.ptp(a) > 0 and np.ptp(b) > 0]
    return float(np.mean([spearmanr(a, b).statistic for a, b in varying])) if varying else float("nan")
