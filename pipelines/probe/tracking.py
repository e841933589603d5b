"""A probing sweep in MLflow: a child run per unit, curves and figures on the parent, vectors in the registry."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from mlflow.entities import Metric, Run

from pipelines.estimators.saturation import Saturation
from pipelines.probe.controls import Floors
from pipelines.probe.preferences import PreferenceResult
from pipelines.probe.result import LayerDirection, ProbeScore, UnitResult
from pipelines.probe.selection import SelectedProbe
from pipelines.statements.labelled import LabelledStatements
from pipelines.tracking.checkpoints import curve_points
from pipelines.tracking.runs import Point, code_commit, log_points
from pipelines.tracking.units import by_layer, unit_params, unit_run
from registry.checkpoint_store import CheckpointStore
from registry.counts import counted
from registry.errors import NotFound
from registry.records import RegisteredCheckpoint
from registry.store import CHAMPION, RegisteredVector, VectorStore
from registry.vectors import Lineage, LinearProbe, SteeringVector


class UnitLog:
    """Where the units of one sweep are logged; it keeps the stores, which remember what they registered."""

    def __init__(self, parent: Run) -> None:
        self._parent = parent
        self._checkpoints = CheckpointStore()
        self._vectors = VectorStore()

    def add(
        self,
        result: UnitResult,
        statements: LabelledStatements,
        floors: Floors,
        random_init: UnitResult,
        layers_to_register: Sequence[int],
    ) -> tuple[RegisteredVector, ...]:
        """A child run with the layer profile (step = layer), its data set, its checkpoint, and vectors registered."""
        with unit_run(result, statements, self._parent, self._checkpoints, measured=_measured(result)) as (
            run_id,
            checkpoint,
        ):
            batch: list[Metric] = []
            vectors = tuple(
                register_direction(self._vectors, result, layer, checkpoint, run_id, batch)
                for layer in layers_to_register
            )
            points = _profile_points(result, floors, random_init)
            log_points(run_id, points, {**unit_params(result), "n_test": result.pooled[0].accuracy.n}, batch)
        return vectors


def _measured(result: UnitResult) -> str:
    return f"held-out accuracy of a linear probe {by_layer({score.layer: score.accuracy for score in result.pooled})}"


def register_direction(
    store: VectorStore,
    result: UnitResult,
    layer: int,
    checkpoint: RegisteredCheckpoint,
    run_id: str,
    batch: list[Metric] | None = None,
) -> RegisteredVector:
    """The version of a unit's direction at one layer, with its probe and its scores; made under the active run.

    Its metrics are logged, or put into ``batch``.
    """
    found, score = result.direction(layer), result.score(layer)
    vector, probe = _vector_and_probe(result, found, checkpoint, run_id)
    metrics = {
        f"{result.dimension}/probe_accuracy": score.accuracy.value,
        f"{result.dimension}/validation_accuracy": score.validation_accuracy,
        f"{result.dimension}/direction_auroc": found.held_out_auroc,
    }
    return store.register(vector, probe, metrics, unit_digest=result.digest, batch=batch)


def _profile_points(result: UnitResult, floors: Floors, random_init: UnitResult) -> list[Point]:
    points: list[Point] = []
    for score in result.pooled:
        values = _score_values(score) | _control_values(floors, random_init.score(score.layer))
        points += [(f"layer/{key}", value, score.layer) for key, value in values.items()]
    return points


def _score_values(score: ProbeScore) -> dict[str, float]:
    return _saturation_values(score.saturation) | {
        "accuracy": score.accuracy.value,
        "accuracy_low": score.accuracy.low,
        "accuracy_high": score.accuracy.high,
        "auroc": score.auroc,
        "bits": score.bits,
        "calibration_error": score.calibration_error,
        "shuffled": score.shuffled.value,
        "validation_accuracy": score.validation_accuracy,
    }


def _saturation_values(measured: Saturation | None) -> dict[str, float]:
    """MLflow's charts know no missing values, so what cannot be told is left out."""
    if measured is None:
        return {}
    estimates = {"margin": measured.margin, "fragility": measured.fragility, "tpr_at_1_fpr": measured.tpr}
    return {name: estimate.value for name, estimate in estimates.items() if estimate is not None}


def _control_values(floors: Floors, random_init: ProbeScore) -> dict[str, float]:
    return {
        "random_init": random_init.accuracy.value,
        "ngram_floor": floors.ngram[None].value,
        "surface_floor": floors.surface[None].value,
    }


def unit_lineage(
    result: UnitResult, checkpoint: RegisteredCheckpoint, run_id: str, *, method: str, n_train: int
) -> Lineage:
    """Where a vector fitted on a unit's statements and checkpoint comes from."""
    return Lineage(
        model=result.checkpoint.model,
        checkpoint_uri=checkpoint.uri,
        checkpoint_step=result.checkpoint.step,
        checkpoint_revision=result.checkpoint.revision,
        weights_digest=result.weights_digest,
        statements_digest=result.statements_digest,
        statements_source=result.statements_source,
        method=method,
        run_id=run_id,
        code_commit=code_commit(),
        n_train=n_train,
        protocol=result.protocol,
        split=result.split,
        pooling=result.pooling,
    )


def _vector_and_probe(
    result: UnitResult, found: LayerDirection, checkpoint: RegisteredCheckpoint, run_id: str
) -> tuple[SteeringVector, LinearProbe]:
    lineage = unit_lineage(result, checkpoint, run_id, method="mass-mean", n_train=found.n_train)
    vector = SteeringVector.at_layer(
        dimension=result.dimension,
        direction=found.mass_mean.direction,
        scale=found.mass_mean.scale,
        layer=found.layer,
        lineage=lineage,
        mean_difference_norm=found.mass_mean.mean_difference_norm,
        projection_mean=found.mass_mean.projection_mean,
    )
    probe = LinearProbe(result.dimension, found.layer, found.probe_weights, found.probe_bias, lineage)
    return vector, probe


def log_curves(
    run_id: str,
    selected: Sequence[tuple[SelectedProbe, SelectedProbe]],
    floors: Mapping[str, Floors],
) -> None:
    """Curves over pre-training steps on the parent: what choosing each checkpoint's layer is worth, beside controls."""
    measured = []
    for probe, control in selected:
        dimension = probe.result.dimension
        accuracy, floor = probe.accuracy, floors[dimension]
        values = {
            "accuracy": accuracy.value,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
            "auroc": probe.auroc,
            "bits": probe.bits,
            "random_init": control.accuracy.value,
            "ngram_floor": floor.ngram[None].value,
            "surface_floor": floor.surface[None].value,
            "best_layer": float(probe.layer),
            "margin_over_floor": accuracy.value - floor.ngram[None].value,
        }
        values |= _saturation_values(probe.saturation)
        measured.append((probe.result.checkpoint, dimension, values))
    log_points(run_id, curve_points(measured))


def log_preferences(run_id: str, results: Sequence[PreferenceResult]) -> None:
    """Curves over pre-training steps on the parent: each checkpoint's preference, unsteered and moved by its vector."""
    measured = []
    for result in results:
        values = {"preference": result.unsteered.value}
        if result.steered is not None:
            values |= {"own_shift": result.steered.shift.value, "largest_random_shift": max(result.steered.random)}
        measured.append((result.checkpoint, result.dimension, values))
    log_points(run_id, curve_points(measured))


def promote_champion(
    vector: RegisteredVector, validation_accuracy: float, candidates: int, selected: SelectedProbe
) -> RegisteredVector | None:
    """Give ``vector`` the alias ``champion``, with the rule it was chosen by, and return the champion, if there is one.

    A champion that was calibrated stays: it was chosen by what it does, and its range is what a service enforces. A
    vector that text showed not to work is given nothing.
    """
    store = VectorStore()
    with suppress(NotFound):
        champion = store.get(vector.name, f"@{CHAMPION}")
        if champion.calibration is not None:
            return champion
    if vector.is_refuted:
        return None
    reason = (
        f"highest validation accuracy of {counted(candidates, 'checkpoint')} in its sweep: "
        f"{validation_accuracy:.4f}; on statements without part in the choice {selected.accuracy}"
    )
    store.promote(vector, reason=reason)
    return vector


def reason_against(vector: RegisteredVector, champion: RegisteredVector | None) -> str:
    """Why ``vector`` was not made champion, where another one is or none."""
    if champion is None:
        return f"{vector.uri} does not work on text, as an evaluation showed: no champion"
    return f"{champion.uri} is calibrated and stays champion; calibrate again to replace it"
