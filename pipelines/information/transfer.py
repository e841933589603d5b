"""Transfer over pre-training: probes and directions of every checkpoint beside those of every other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipelines.estimators.dynamics import transfer_accuracy
from pipelines.estimators.estimate import Estimate
from pipelines.estimators.jackknife import jackknife_halves
from pipelines.estimators.likeness import FittedHalves, Likeness, likenesses, mass_mean_halves, reliability
from pipelines.information.result import InformationResult
from pipelines.information.store import InformationStore
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import cross_validation

Matrix = Float[np.ndarray, "fitted applied"]


@dataclass(frozen=True)
class Transfer:
    """Every two trained checkpoints, at one layer."""

    layer: int
    n: int
    accuracies: tuple[tuple[Estimate, ...], ...]
    """Held-out accuracy of the probes of one checkpoint (row) on the activations of another (column)."""
    recentred_accuracies: tuple[tuple[Estimate, ...], ...]
    """The same with each checkpoint's activations less their mean, which needs no labels: whether a direction holds
    where only the threshold has moved."""
    likeness: tuple[tuple[Likeness, ...], ...]
    """Of mass-mean directions."""
    reliability: tuple[float, ...]
    """Split-half reliability of each checkpoint's direction, stepped up to all statements."""

    @property
    def accuracy(self) -> Matrix:
        return _values(self.accuracies)

    @property
    def recentred(self) -> Matrix:
        return _values(self.recentred_accuracies)

    @property
    def cosine(self) -> Matrix:
        return np.array([[pair.cosine for pair in row] for row in self.likeness])


def _values(estimates: tuple[tuple[Estimate, ...], ...]) -> Matrix:
    return np.array([[estimate.value for estimate in row] for row in estimates])


def measure_transfer(
    trained: Sequence[InformationResult], statements: LabelledStatements, store: InformationStore, seed: int
) -> Transfer:
    """Transfer between the checkpoints of ``trained``, whose activations ``store`` has."""
    splits = cross_validation(statements, (seed,))
    (folds,) = splits.folds
    rows = np.where(np.isin(folds, splits.tested), folds, -1)
    labels, groups = statements.labels, statements.groups
    kept = [result.transferable for result in trained]
    weights, biases = [fitted.weights for fitted in kept], [fitted.biases for fitted in kept]
    means = [store.states(result.digest).mean(axis=0) for result in trained]
    centred = (store.states(result.digest) - mean for result, mean in zip(trained, means, strict=True))
    moved = [bias + slopes @ mean for slopes, bias, mean in zip(weights, biases, means, strict=True)]
    halves = jackknife_halves(groups, seed)
    fitted_halves = [
        FittedHalves(fitted.direction, mass_mean_halves(store.states(result.digest), labels, halves).halves)
        for result, fitted in zip(trained, kept, strict=True)
    ]
    states = (store.states(result.digest) for result in trained)
    return Transfer(
        layer=kept[0].layer,
        n=len(splits.test_rows),
        accuracies=transfer_accuracy(states, weights, biases, labels, rows, groups),
        recentred_accuracies=transfer_accuracy(centred, weights, moved, labels, rows, groups),
        likeness=likenesses(fitted_halves, fitted_halves),
        reliability=tuple(reliability(fitted) for fitted in fitted_halves),
    )
