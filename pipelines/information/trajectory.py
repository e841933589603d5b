"""One dimension over pre-training: its phases, when it becomes readable, and whether it is the same from then on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipelines.estimators.dynamics import cosines, onset, rank_correlation, step_of_rise, transfer_accuracy
from pipelines.estimators.estimate import Estimate
from pipelines.estimators.phases import TwoPhases, fitting_p_value, two_phases
from pipelines.information.result import PAPER, InformationResult
from pipelines.information.store import InformationStore
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import cross_validation

FEWEST_CHECKPOINTS = 4
"""With fewer no order of the steps is rare, and phases are not looked for."""
NHSIC, CKA, RANK = "nhsic_xt", "cka_xt", "effective_rank"
SWEPT = "nhsic_xt_bandwidth_"
"""Begins the name of nHSIC at another multiple of the median bandwidth, X of the same checkpoint."""


@dataclass(frozen=True)
class Curves:
    """One quantity of every layer over the trained checkpoints."""

    estimator: str
    quantity: str
    values: Float[np.ndarray, "layers steps"]
    replicates: Float[np.ndarray, "halves layers steps"] | None = None
    """The same on halves of the statements."""


@dataclass(frozen=True)
class Phase:
    """The phases of one quantity at one layer, or of all layers together but that of X, which tells of X itself."""

    estimator: str
    quantity: str
    layer: int | None
    found: TwoPhases
    rank_correlation: float
    """Spearman's correlation over checkpoints with the activations' effective rank, mean over layers."""


@dataclass(frozen=True)
class LayerDynamics:
    """When one layer can be read. Steps are ``None`` where it never comes to that."""

    layer: int
    onset: int | None
    """The first step whose usable bits lie above those of the random initialisation."""
    onset_beyond_ngrams: int | None
    """The first step whose bits beyond an n-gram model of the text lie above zero and the random initialisation's."""
    rise_95: int | None
    """The step at which 95 % of the rise of usable bits is done."""
    fitting_p: float
    """How often usable bits in permuted order rise as steadily."""


@dataclass(frozen=True)
class Transfer:
    """Every two trained checkpoints, at one layer."""

    layer: int
    n: int
    accuracy: Float[np.ndarray, "fitted applied"]
    """Held-out accuracy of the probes of one checkpoint on the activations of another."""
    recentred: Float[np.ndarray, "fitted applied"]
    """The same with each checkpoint's activations less their mean, which needs no labels: whether a direction holds
    where only the threshold has moved."""
    cosine: Float[np.ndarray, "checkpoints checkpoints"]
    """Of mass-mean directions."""


@dataclass(frozen=True)
class Course:
    """What the information experiment found of one dimension."""

    dimension: str
    initial: InformationResult
    """At random initialisation."""
    trained: tuple[InformationResult, ...]
    """In order of step."""
    phases: tuple[Phase, ...]
    dynamics: tuple[LayerDynamics, ...]
    transfer: Transfer

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(one.checkpoint.step for one in self.trained)

    @property
    def layer(self) -> int:
        """The layer that curves over pre-training are drawn of: two thirds down."""
        return self.transfer.layer

    def phase(self, estimator: str, quantity: str = NHSIC, layer: int | None = None) -> Phase | None:
        """The phases of a layer, or of all together; ``None`` when there were too few checkpoints."""
        wanted = (estimator, quantity, layer)
        return next((one for one in self.phases if (one.estimator, one.quantity, one.layer) == wanted), None)

    @property
    def bandwidths(self) -> tuple[Phase, ...]:
        """The phases of nHSIC of all layers together at every bandwidth, X of the same checkpoint."""
        first = self.phases[0].estimator if self.phases else ""
        chosen = (one for one in self.phases if one.estimator == first and one.layer is None)
        return tuple(one for one in chosen if one.quantity == NHSIC or one.quantity.startswith(SWEPT))

    def layer_dynamics(self, layer: int) -> LayerDynamics:
        return next(one for one in self.dynamics if one.layer == layer)


def follow(
    results: Sequence[InformationResult], statements: LabelledStatements, store: InformationStore, seed: int
) -> Course:
    """The course of one dimension, of its ``results`` in order of step; ``store`` has their activations."""
    initial, trained = results[0], tuple(results[1:])
    steps = [one.checkpoint.step for one in trained]
    return Course(
        dimension=initial.dimension,
        initial=initial,
        trained=trained,
        phases=_phases(steps, trained, seed) if len(trained) >= FEWEST_CHECKPOINTS else (),
        dynamics=tuple(_dynamics(steps, initial, trained, layer, seed) for layer in initial.layers),
        transfer=_transfer(trained, statements, store, seed),
    )


def curves_of(trained: Sequence[InformationResult]) -> tuple[Curves, ...]:
    """The curves in which phases are looked for: nHSIC by estimator, then what it may be confused with."""
    points = [[result.point(layer) for result in trained] for layer in trained[0].layers]
    found = []
    for estimator in trained[0].points[0].xt:
        values = np.array([[one.xt[estimator].nhsic for one in row] for row in points])
        halves = np.array([[one.xt[estimator].halves for one in row] for row in points])
        replicates = np.moveaxis(halves, 2, 0) if halves.shape[2] else None
        found.append(Curves(estimator, NHSIC, values, replicates))
        if estimator != PAPER:
            cka = np.array([[one.xt[estimator].cka for one in row] for row in points])
            found.append(Curves(estimator, CKA, np.nan_to_num(cka)))
    for place, swept in list(enumerate(trained[0].points[0].swept))[1:]:
        values = np.array([[one.swept[place].xt for one in row] for row in points])
        found.append(Curves(found[0].estimator, f"{SWEPT}{swept.scale:g}", values))
    rank = np.array([[one.spectrum.effective_rank for one in row] for row in points])
    return (*found, Curves(found[0].estimator, RANK, rank))


def _phases(steps: Sequence[int], trained: Sequence[InformationResult], seed: int) -> tuple[Phase, ...]:
    layers = trained[0].layers
    every = curves_of(trained)
    ranks = every[-1].values
    rows: list[tuple[int | None, slice]] = [(None, slice(1 if len(layers) > 1 else 0, None))]
    rows += [(layer, slice(row, row + 1)) for row, layer in enumerate(layers)]
    phases = []
    for curves in every:
        for layer, chosen in rows[:1] if curves.quantity.startswith(SWEPT) else rows:
            halves = None if curves.replicates is None else curves.replicates[:, chosen]
            found = two_phases(steps, curves.values[chosen], halves, seed=seed)
            alike = rank_correlation(curves.values[chosen], ranks[chosen])
            phases.append(Phase(curves.estimator, curves.quantity, layer, found, alike))
    return tuple(phases)


def _dynamics(
    steps: Sequence[int],
    initial: InformationResult,
    trained: Sequence[InformationResult],
    layer: int,
    seed: int,
) -> LayerDynamics:
    control, points = initial.point(layer), [result.point(layer) for result in trained]
    values = np.array([one.bits.value for one in points])
    began = onset(steps, [one.bits for one in points], control.bits)
    return LayerDynamics(
        layer=layer,
        onset=began,
        onset_beyond_ngrams=onset(
            steps, [one.conditional_bits for one in points], _not_below_zero(control.conditional_bits)
        ),
        rise_95=None if began is None else step_of_rise(steps, values),
        fitting_p=fitting_p_value(values, seed=seed),
    )


def _not_below_zero(one: Estimate) -> Estimate:
    return Estimate(max(one.value, 0.0), max(one.low, 0.0), max(one.high, 0.0), one.n)


def _transfer(
    trained: Sequence[InformationResult], statements: LabelledStatements, store: InformationStore, seed: int
) -> Transfer:
    splits = cross_validation(statements, (seed,))
    (folds,) = splits.folds
    rows = np.where(np.isin(folds, splits.tested), folds, -1)
    kept = [one.transferable for one in trained]
    weights, biases = [one.weights for one in kept], [one.biases for one in kept]
    means = [store.states(one.digest).mean(axis=0) for one in trained]
    centred = (store.states(one.digest) - mean for one, mean in zip(trained, means, strict=True))
    moved = [bias + slopes @ mean for slopes, bias, mean in zip(weights, biases, means, strict=True)]
    return Transfer(
        layer=kept[0].layer,
        n=len(splits.test_rows),
        accuracy=transfer_accuracy(
            (store.states(one.digest) for one in trained), weights, biases, statements.labels, rows
        ),
        recentred=transfer_accuracy(centred, weights, moved, statements.labels, rows),
        cosine=cosines([one.direction for one in kept]),
    )
