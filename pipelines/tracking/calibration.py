"""A calibration in MLflow: what each vector does, and the version that carries it."""

from pipelines.evaluation.calibration import CalibratedLayer
from pipelines.sweep.unit import UnitResult
from pipelines.tracking.probing import register_direction
from pipelines.tracking.runs import Point, Run, log_points
from registry.calibration import PERPLEXITY_CAP, Calibration
from registry.store import CheckpointStore, RegisteredVector, VectorStore


class CalibrationLog:
    """Where the calibrations of one run are logged and registered."""

    def __init__(self, run: Run) -> None:
        self._run_id = run.info.run_id
        self._checkpoints = CheckpointStore()
        self._vectors = VectorStore()

    def add(self, result: UnitResult, found: CalibratedLayer) -> RegisteredVector:
        """Metrics on the run; the vector of the chosen layer registered, calibrated and made champion."""
        log_points(self._run_id, _points(result.dimension, found))
        checkpoint = self._checkpoints.register(result.checkpoint, result.weights_digest)
        registered = register_direction(self._vectors, result, found.layer, checkpoint, self._run_id)
        calibrated = self._vectors.calibrate(registered, to_calibration(found, result, self._run_id))
        self._vectors.promote(calibrated, reason=_reason(found))
        return calibrated


def to_calibration(found: CalibratedLayer, result: UnitResult, run_id: str) -> Calibration:
    return Calibration(
        low=found.low,
        high=found.high,
        recommended=found.recommended,
        perplexity_cap=PERPLEXITY_CAP,
        points=tuple(one.to_point() for one in found.curve),
        n=found.curve[0].shift.n,
        statements_digest=result.statements_digest,
        run_id=run_id,
    )


def _points(dimension: str, found: CalibratedLayer) -> list[Point]:
    values = {
        "layer": float(found.layer),
        "safe_low": found.low,
        "safe_high": found.high,
        "recommended_strength": found.recommended,
        "shift": found.tested.shift.value,
        "shift_low": found.tested.shift.low,
        "shift_high": found.tested.shift.high,
        "perplexity_ratio": found.tested.perplexity_ratio,
        "largest_random_shift": max(one.shift.value for one in found.random),
    }
    return [(f"{dimension}/{name}", value, 0) for name, value in values.items()]


def _reason(found: CalibratedLayer) -> str:
    if not found.recommended:
        return f"calibrated: layer {found.layer} did best on validation, but no strength moved preference beyond chance"
    chosen = next(one for one in found.curve if one.strength == found.recommended)
    return (
        f"calibrated: on validation, strength {chosen.strength:g} at layer {found.layer} moved preference by "
        f"{chosen.shift} nats at {chosen.perplexity_ratio:.3f} times the perplexity"
    )
