"""Vectors by several methods in the registry, each with the lineage of the unit that it was fitted in."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pipelines.estimators.estimate import Estimate
from pipelines.probe.result import UnitResult
from pipelines.probe.tracking import register_direction, unit_lineage
from pipelines.tracking.checkpoints import curve_points
from pipelines.tracking.runs import Run, log_points
from pipelines.vectors.methods import OPTIMISED, VERSIONS, FittedDirection
from registry.checkpoint_store import CheckpointStore
from registry.records import CHAMPION, RegisteredCheckpoint, vector_name
from registry.store import RegisteredVector, VectorStore
from registry.vectors import LinearProbe, SteeringVector
from serving.model.language_model import LanguageModel


class VectorLog:
    """Where the vectors of one run are logged and registered. None of them is made champion."""

    def __init__(self, run: Run, first_line: str = "") -> None:
        """``first_line`` is the stage whose curves are called by their dimension alone."""
        self._run_id, self._first_line = run.info.run_id, first_line
        self._checkpoints = CheckpointStore()
        self._vectors = VectorStore()

    def add(
        self,
        result: UnitResult,
        layer: int,
        fitted: FittedDirection,
        auroc: Estimate,
        cosine: float,
        target: LanguageModel | None = None,
    ) -> RegisteredVector:
        """The version of ``fitted`` at ``layer``; of the mass-mean direction the one that probing registers.

        With ``target`` it is registered under that model's name, with the lineage of the checkpoint it came from.
        """
        checkpoint = self._checkpoints.register(result.checkpoint, result.weights_digest)
        if fitted.method == "mass-mean" and target is None:
            registered = register_direction(self._vectors, result, layer, checkpoint, self._run_id)
        else:
            metrics = {"direction_auroc": auroc.value, "cosine_with_mass_mean": cosine}
            registered = register_fitted(
                self._vectors, result, layer, fitted, checkpoint, self._run_id, metrics, target
            )
        values = {"auroc": auroc.value, "auroc_low": auroc.low, "auroc_high": auroc.high, "cosine": cosine}
        measured = (result.checkpoint, f"{result.dimension}/{fitted.label}", values)
        log_points(self._run_id, curve_points([measured], self._first_line))
        return registered


def register_fitted(
    store: VectorStore,
    result: UnitResult,
    layer: int,
    fitted: FittedDirection,
    checkpoint: RegisteredCheckpoint,
    run_id: str,
    metrics: Mapping[str, float] = MappingProxyType({}),
    target: LanguageModel | None = None,
) -> RegisteredVector:
    """The version of a direction, with the unit's probe unless it is for another model; made under the active run."""
    direction = result.direction(layer)
    lineage = unit_lineage(result, checkpoint, run_id, method=fitted.method, n_train=direction.n_train)
    if fitted.texts is not None:
        texts = fitted.texts
        lineage = replace(
            lineage,
            statements_source=texts.source,
            statements_digest=texts.digest,
            n_train=texts.n,
            template=texts.template,
            pooling="response",
        )
    if target is not None:
        lineage = replace(lineage, target=target.checkpoint.model, target_digest=target.weights_digest)
    vector = SteeringVector(
        dimension=result.dimension,
        direction=fitted.unit,
        scale=fitted.scale,
        layer=layer,
        lineage=lineage,
        mean_difference_norm=(fitted.texts or direction.mass_mean).mean_difference_norm,
        projection_mean=fitted.projection_mean,
    )
    # Beside a control, a probe that reads the true labels would contradict it.
    probe = LinearProbe(result.dimension, layer, direction.probe_weights, direction.probe_bias, lineage)
    named = {f"{result.dimension}/{name}": value for name, value in metrics.items()}
    # A probe's threshold holds neither on another model's activations nor for another reading of them.
    kept = None if fitted.is_control or fitted.texts is not None or target is not None else probe
    digest = version_digest(result.digest, fitted, lineage.target_digest)
    return store.register(vector, kept, named, unit_digest=digest)


def champion_layer(model: str, dimension: str) -> int:
    """The layer of the vector that is served. Raises ``NotFound`` where there is none."""
    return VectorStore().get(vector_name(model, dimension), f"@{CHAMPION}").layer


def version_digest(unit_digest: str, fitted: FittedDirection, target_digest: str) -> str:
    """Tells versions of one unit and layer apart by method, its code, draw, target, texts; trained ones by the vector.

    Training has many settings, and the same ones may give another vector on another machine.
    """
    texts = fitted.texts.digest if fitted.texts else ""
    if fitted.method == OPTIMISED:
        texts += hashlib.sha256(fitted.unit.tobytes()).hexdigest()
    code = VERSIONS[fitted.method]
    method = fitted.label if code == 1 else f"{fitted.label} code {code}"  # as versions before there were others
    return hashlib.sha256(f"{unit_digest} {method} {target_digest}{texts}".strip().encode()).hexdigest()[:32]
