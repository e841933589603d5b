"""Trajectory of one dimension over pre-training: its phases, when it becomes readable, whether it stays the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Float

from pipelines.estimators.dynamics import Correlation, change_correlation, step_of_rise
from pipelines.estimators.estimate import Estimate
from pipelines.estimators.onsets import Onset, onset_above
from pipelines.estimators.phases import TwoPhases, adjusted, fitting_p_value, two_phases
from pipelines.information.result import PAPER, InformationResult
from pipelines.information.store import InformationStore
from pipelines.information.transfer import Transfer, measure_transfer
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.unit import points_along, without_place
from registry.checkpoints import Checkpoint

FEWEST_CHECKPOINTS = 4
"""With fewer there is no peak to speak of; whether there is a fall can be told of six or more."""
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
    shape: TwoPhases
    rank_correlation: Correlation
    """Of its changes between checkpoints with those of the activations' effective rank, both means over layers."""


@dataclass(frozen=True)
class LayerDynamics:
    """When one layer can be read, and whether it can from then on."""

    layer: int
    onset: Onset
    """Where usable bits come above those of the random initialisation, at 5 % over steps and layers."""
    onset_beyond_ngrams: Onset
    """The same of bits beyond an n-gram model of the text, which must lie above zero too."""
    rise_95: int | None
    """The step at which 95 % of the rise of usable bits is done; ``None`` where there is none."""
    fitting_p: float
    """How often bits that wander as these do rise as steadily."""


@dataclass(frozen=True)
class Trajectory:
    """Results of the information experiment for one dimension."""

    dimension: str
    initial: InformationResult
    """At random initialisation."""
    trained: tuple[InformationResult, ...]
    """In order of step."""
    phases: tuple[Phase, ...]
    dynamics: tuple[LayerDynamics, ...]
    transfer: Transfer

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        return tuple(result.checkpoint for result in self.trained)

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(result.checkpoint.step for result in self.trained)

    @property
    def distinct(self) -> Bool[np.ndarray, " checkpoints"]:
        """Which of the trained checkpoints neither have the weights of an earlier one nor a step that is disputed."""
        excluded = without_place(self.trained)
        return np.array([result.checkpoint not in excluded for result in self.trained])

    @property
    def layer(self) -> int:
        """The layer that curves over pre-training are drawn of: two thirds down."""
        return self.transfer.layer

    def phase(self, estimator: str, quantity: str = NHSIC, layer: int | None = None) -> Phase | None:
        """The phases of a layer, or of all together; ``None`` when there were too few checkpoints."""
        wanted = (estimator, quantity, layer)
        return next((phase for phase in self.phases if (phase.estimator, phase.quantity, phase.layer) == wanted), None)

    @property
    def bandwidths(self) -> tuple[Phase, ...]:
        """The phases of nHSIC of all layers together at every bandwidth, X of the same checkpoint."""
        first = self.phases[0].estimator if self.phases else ""
        chosen = (phase for phase in self.phases if phase.estimator == first and phase.layer is None)
        return tuple(phase for phase in chosen if phase.quantity == NHSIC or phase.quantity.startswith(SWEPT))

    def layer_dynamics(self, layer: int) -> LayerDynamics:
        return next(dynamics for dynamics in self.dynamics if dynamics.layer == layer)


def analyse(
    results: Sequence[InformationResult], statements: LabelledStatements, store: InformationStore, seed: int
) -> Trajectory:
    """The trajectory of one dimension, of its ``results`` in order of step; ``store`` has their activations.

    Its falls are tested by themselves; ``corrected`` takes all dimensions together.
    """
    initial, trained = results[0], tuple(results[1:])
    along = points_along(trained)
    steps = [result.checkpoint.step for result in along]
    return Trajectory(
        dimension=initial.dimension,
        initial=initial,
        trained=trained,
        phases=_phases(steps, along, seed) if len(along) >= FEWEST_CHECKPOINTS else (),
        dynamics=tuple(_dynamics(steps, initial, along, layer, seed) for layer in initial.layers),
        transfer=measure_transfer(trained, statements, store, seed),
    )


def corrected(trajectories: Sequence[Trajectory], seed: int) -> tuple[Trajectory, ...]:
    """Every fall's p-value corrected for all layers, bandwidths, estimators and dimensions that it is one of."""
    shapes = adjusted([phase.shape for trajectory in trajectories for phase in trajectory.phases], seed=seed)
    ends = list(accumulate(len(trajectory.phases) for trajectory in trajectories))
    return tuple(
        replace(
            trajectory,
            phases=tuple(
                replace(phase, shape=shape)
                for phase, shape in zip(trajectory.phases, shapes[end - len(trajectory.phases) : end], strict=True)
            ),
        )
        for trajectory, end in zip(trajectories, ends, strict=True)
    )


def curves_of(trained: Sequence[InformationResult]) -> tuple[Curves, ...]:
    """The curves in which phases are looked for: nHSIC by estimator, then what it may be confused with."""
    points = [[result.point(layer) for result in trained] for layer in trained[0].layers]
    curves = []
    for estimator in trained[0].points[0].xt:
        values = np.array([[point.xt[estimator].nhsic for point in row] for row in points])
        halves = np.array([[point.xt[estimator].halves for point in row] for row in points])
        replicates = np.moveaxis(halves, 2, 0) if halves.shape[2] else None
        curves.append(Curves(estimator, NHSIC, values, replicates))
        if estimator != PAPER:
            cka = np.array([[point.xt[estimator].cka for point in row] for row in points])
            curves.append(Curves(estimator, CKA, np.nan_to_num(cka)))
    for number, swept in list(enumerate(trained[0].points[0].swept))[1:]:
        values = np.array([[point.swept[number].xt for point in row] for row in points])
        curves.append(Curves(curves[0].estimator, f"{SWEPT}{swept.scale:g}", values))
    rank = np.array([[point.spectrum.effective_rank for point in row] for row in points])
    return (*curves, Curves(curves[0].estimator, RANK, rank))


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
            shape = two_phases(steps, curves.values[chosen], halves, seed=seed)
            alike = change_correlation(curves.values[chosen].mean(axis=0), ranks[chosen].mean(axis=0))
            phases.append(Phase(curves.estimator, curves.quantity, layer, shape, alike))
    return tuple(phases)


def _dynamics(
    steps: Sequence[int],
    initial: InformationResult,
    trained: Sequence[InformationResult],
    layer: int,
    seed: int,
) -> LayerDynamics:
    control, points = initial.point(layer), [result.point(layer) for result in trained]
    values = np.array([point.bits.value for point in points])
    comparisons = len(steps) * len(initial.layers)
    began = onset_above(steps, [point.bits for point in points], control.bits, comparisons)
    return LayerDynamics(
        layer=layer,
        onset=began,
        onset_beyond_ngrams=onset_above(
            steps,
            [point.conditional_bits for point in points],
            _not_below_zero(control.conditional_bits),
            comparisons,
        ),
        rise_95=None if began.step is None else step_of_rise(steps, values),
        fitting_p=fitting_p_value(values, seed=seed),
    )


def _not_below_zero(bits: Estimate) -> Estimate:
    return Estimate(max(bits.value, 0.0), max(bits.low, 0.0), max(bits.high, 0.0), bits.n)
