"""A calibration in MLflow: what each vector does, and the version that carries it."""

from pipelines.calibrate.candidates import Contender
from pipelines.calibrate.search import Calibrated
from pipelines.probe.result import UnitResult
from pipelines.probe.tracking import register_direction
from pipelines.statements.labelled import LabelledStatements
from pipelines.tracking.runs import Point, Run, log_points
from pipelines.vectors.tracking import register_fitted
from registry.calibration import PERPLEXITY_CAP, Calibration
from registry.errors import InvalidInput
from registry.store import CheckpointStore, RegisteredVector, VectorStore


class CalibrationLog:
    """Where the calibrations of one run are logged and registered."""

    def __init__(self, run: Run) -> None:
        self._run_id = run.info.run_id
        self._checkpoints = CheckpointStore()
        self._vectors = VectorStore()

    def add(
        self, found: Calibrated, contender: Contender, statements: LabelledStatements, result: UnitResult | None
    ) -> RegisteredVector:
        """Metrics on the run; the chosen vector registered, calibrated and made champion.

        ``result`` is the unit that a direction was fitted in; a registered vector needs none.
        """
        log_points(self._run_id, _points(statements.dimension, found))
        registered = contender.registered or self._register(found.layer, contender, result)
        calibrated = self._vectors.calibrate(registered, to_calibration(found, statements.digest, self._run_id))
        self._vectors.promote(calibrated, reason=_reason(found))
        return calibrated

    def _register(self, layer: int, contender: Contender, result: UnitResult | None) -> RegisteredVector:
        if result is None:
            raise InvalidInput(f"the {contender.candidate.label} direction has no unit that it was fitted in")
        checkpoint = self._checkpoints.register(result.checkpoint, result.weights_digest)
        if contender.fitted is None:
            return register_direction(self._vectors, result, layer, checkpoint, self._run_id)
        return register_fitted(self._vectors, result, layer, contender.fitted, checkpoint, self._run_id)


def to_calibration(found: Calibrated, statements_digest: str, run_id: str) -> Calibration:
    return Calibration(
        low=found.low,
        high=found.high,
        recommended=found.recommended,
        perplexity_cap=PERPLEXITY_CAP,
        points=tuple(one.to_point() for one in found.curve),
        n=found.curve[0].shift.n,
        statements_digest=statements_digest,
        run_id=run_id,
    )


def _points(dimension: str, found: Calibrated) -> list[Point]:
    values = {
        "layer": float(found.layer),
        "safe_low": found.low,
        "safe_high": found.high,
        "recommended_strength": found.recommended,
        "shift": found.tested.shift.value,
        "shift_low": found.tested.shift.low,
        "shift_high": found.tested.shift.high,
        "perplexity_ratio": found.tested.perplexity.value,
        "perplexity_low": found.tested.perplexity.low,
        "perplexity_high": found.tested.perplexity.high,
        "largest_random_shift": max(one.shift.value for one in found.random),
    }
    return [(f"{dimension}/{name}", value, 0) for name, value in values.items()]


def _reason(found: Calibrated) -> str:
    if not found.recommended:
        return (
            f"calibrated: {found.candidate.label} at layer {found.layer} did best on validation, but no strength moved "
            "preference beyond chance at little cost"
        )
    chosen = next(one for one in found.curve if one.strength == found.recommended)
    return (
        f"calibrated: on validation, {found.candidate.label} at layer {found.layer}, strength {chosen.strength:g}, "
        f"moved preference by {chosen.shift} nats at {chosen.perplexity} times the perplexity"
    )
