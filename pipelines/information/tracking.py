"""An information sweep in MLflow: a child run per unit, curves over pre-training on the parent."""

from collections.abc import Sequence

from mlflow.entities import Run

from pipelines.information.result import FIXED, InformationResult, LayerInformation
from pipelines.information.trajectory import Trajectory
from pipelines.statements.labelled import LabelledStatements
from pipelines.tracking.checkpoints import curve_points
from pipelines.tracking.runs import Point, log_points
from pipelines.tracking.units import by_layer, unit_params, unit_run
from registry.checkpoint_store import CheckpointStore


class InformationLog:
    """Where the units of one sweep are logged."""

    def __init__(self, parent: Run) -> None:
        self._parent = parent
        self._checkpoints = CheckpointStore()

    def add(self, result: InformationResult, statements: LabelledStatements) -> None:
        """A child run with the layer profile (step = layer), its data set and its checkpoint."""
        with unit_run(result, statements, self._parent, self._checkpoints, measured=_measured(result)) as (run_id, _):
            points = [
                (f"layer/{name}", value, point.layer)
                for point in result.points
                for name, value in _values(point).items()
            ]
            log_points(run_id, points, {**unit_params(result), "n": result.n, "seed": result.seed})


def _measured(result: InformationResult) -> str:
    bits = {point.layer: point.bits for point in result.points}
    return f"bits that a linear probe tells of the label, held out: {by_layer(bits)}"


def log_trajectories(run_id: str, trajectories: Sequence[Trajectory]) -> None:
    """Curves over pre-training steps on the parent: each dimension at the layer two thirds down."""
    points: list[Point] = []
    for trajectory in trajectories:
        points += curve_points(
            (result.checkpoint, trajectory.dimension, _values(result.point(trajectory.layer)))
            for result in trajectory.trained
        )
        points.append((f"{trajectory.dimension}/layer", float(trajectory.layer), 0))
    log_points(run_id, points)


def _values(point: LayerInformation) -> dict[str, float]:
    """What is drawn; MLflow's charts know no missing values, so what was not measured is left out."""
    estimator = next(iter(point.xt))
    own = point.xt[estimator]
    values = {
        "nhsic_xt": own.nhsic,
        "null_xt": own.null,
        "nhsic_ty": point.ty.nhsic,
        "null_ty": point.ty.null,
        "cka_xt": own.cka,
        "v_information_bits": point.bits.value,
        "v_information_low": point.bits.low,
        "v_information_high": point.bits.high,
        "conditional_bits": point.conditional_bits.value,
        "neighbour_bits": point.neighbour_bits,
        "effective_rank": point.spectrum.effective_rank,
        "rankme": point.spectrum.rankme,
        "alpha_req": point.spectrum.alpha_req,
    }
    if FIXED in point.xt:
        values |= {"nhsic_xt_fixed": point.xt[FIXED].nhsic, "null_xt_fixed": point.xt[FIXED].null}
    return {name: value for name, value in values.items() if value == value}
