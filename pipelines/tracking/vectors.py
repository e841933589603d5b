"""Vectors by several methods in the registry, each with the lineage of the unit that it was fitted in."""

import hashlib

from pipelines.estimators.directions import FittedDirection
from pipelines.estimators.estimate import Estimate
from pipelines.sweep.unit import UnitResult
from pipelines.tracking.probing import register_direction, unit_lineage
from pipelines.tracking.runs import Run, log_points
from registry.registered import CHAMPION, vector_name
from registry.store import CheckpointStore, RegisteredVector, VectorStore
from registry.vectors import LinearProbe, SteeringVector


class VectorLog:
    """Where the vectors of one run are logged and registered. None of them is made champion."""

    def __init__(self, run: Run) -> None:
        self._run_id = run.info.run_id
        self._checkpoints = CheckpointStore()
        self._vectors = VectorStore()

    def add(
        self, result: UnitResult, layer: int, fitted: FittedDirection, auroc: Estimate, cosine: float
    ) -> RegisteredVector:
        """The version of ``fitted`` at ``layer``; of the mass-mean direction the one that probing registers."""
        checkpoint = self._checkpoints.register(result.checkpoint, result.weights_digest)
        if fitted.method == "mass-mean":
            registered = register_direction(self._vectors, result, layer, checkpoint, self._run_id)
        else:
            found = result.direction(layer)
            lineage = unit_lineage(result, checkpoint, self._run_id, method=fitted.method, n_train=found.n_train)
            vector = SteeringVector(
                dimension=result.dimension,
                direction=fitted.unit,
                scale=fitted.scale,
                layer=layer,
                lineage=lineage,
                mean_difference_norm=found.mass_mean.mean_difference_norm,
                projection_mean=fitted.projection_mean,
            )
            # Beside a control, a probe that reads the true labels would belie it.
            probe = LinearProbe(result.dimension, layer, found.probe_weights, found.probe_bias, lineage)
            metrics = {
                f"{result.dimension}/direction_auroc": auroc.value,
                f"{result.dimension}/cosine_with_mass_mean": cosine,
            }
            registered = self._vectors.register(
                vector, None if fitted.is_control else probe, metrics, unit_digest=_digest(result, fitted)
            )
        prefix, step = f"{result.dimension}/{fitted.label}", max(0, result.checkpoint.step)
        values = {"auroc": auroc.value, "auroc_low": auroc.low, "auroc_high": auroc.high, "cosine": cosine}
        log_points(self._run_id, [(f"{prefix}/{name}", value, step) for name, value in values.items()])
        return registered


def champion_layer(model: str, dimension: str) -> int:
    """The layer of the vector that is served. Raises ``NotFound`` where there is none."""
    return VectorStore().get(vector_name(model, dimension), f"@{CHAMPION}").layer


def _digest(result: UnitResult, fitted: FittedDirection) -> str:
    """Tells versions of one unit and layer apart by method and draw."""
    return hashlib.sha256(f"{result.digest} {fitted.label}".encode()).hexdigest()[:32]
