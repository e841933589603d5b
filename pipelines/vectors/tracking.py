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
from pipelines.vectors.answer_probes import PROBE_VERSION, FittedProbe
from pipelines.vectors.methods import OPTIMISED, VERSIONS, FittedDirection
from pipelines.vectors.places import Fitted, Place
from registry.checkpoint_store import CheckpointStore
from registry.layers import place_text
from registry.records import CHAMPION, RegisteredCheckpoint, vector_name
from registry.store import RegisteredVector, VectorStore
from registry.vectors import Direction, LinearProbe, SteeringVector
from serving.model.language_model import LanguageModel


class VectorLog:
    """Where the vectors of one run are logged and registered. None of them is made champion."""

    def __init__(self, run: Run, first_line: str = "", *, tells_layers: bool = False) -> None:
        """``first_line`` is the stage whose curves are called by their dimension alone.

        ``tells_layers`` where a method has vectors at several places, whose curves would be one.
        """
        self._run_id, self._first_line, self._tells_layers = run.info.run_id, first_line, tells_layers
        self._checkpoints = CheckpointStore()
        self._vectors = VectorStore()

    def add(
        self,
        result: UnitResult,
        fitted: Fitted,
        auroc: Estimate,
        cosine: float,
        target: LanguageModel | None = None,
        probe: FittedProbe | None = None,
    ) -> RegisteredVector:
        """The version of ``fitted``; of the mass-mean direction of one layer the one that probing registers.

        With ``target`` it is registered under that model's name, with the lineage of the checkpoint it came from.
        ``probe`` is that of the answers which the vector was read on.
        """
        checkpoint = self._checkpoints.register(result.checkpoint, result.weights_digest)
        layers, first = tuple(fitted), next(iter(fitted.values()))
        if first.method == "mass-mean" and len(layers) == 1 and target is None:
            registered = register_direction(self._vectors, result, layers[0], checkpoint, self._run_id)
        else:
            metrics = {"direction_auroc": auroc.value, "cosine_with_mass_mean": cosine}
            where = self._vectors, result, fitted, checkpoint, self._run_id
            registered = register_fitted(*where, metrics, target, probe)
        values = {"auroc": auroc.value, "auroc_low": auroc.low, "auroc_high": auroc.high, "cosine": cosine}
        name = f"{first.label} {place_text(layers)}" if self._tells_layers else first.label
        measured = (result.checkpoint, f"{result.dimension}/{name}", values)
        log_points(self._run_id, curve_points([measured], self._first_line))
        return registered


def register_fitted(
    store: VectorStore,
    result: UnitResult,
    fitted: Fitted,
    checkpoint: RegisteredCheckpoint,
    run_id: str,
    metrics: Mapping[str, float] = MappingProxyType({}),
    target: LanguageModel | None = None,
    answer_probe: FittedProbe | None = None,
) -> RegisteredVector:
    """The version of a method's directions, made under the active run.

    Beside it lies a probe of its lowest layer: the unit's, or that of the answers which were read. There is none beside
    a control, and none for another model.
    """
    lowest, first = min(fitted), fitted[min(fitted)]
    direction, texts = result.direction(lowest), first.texts
    lineage = unit_lineage(result, checkpoint, run_id, method=first.method, n_train=direction.n_train)
    if texts is not None:
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
    directions = (as_direction(result, layer, fitted[layer]) for layer in sorted(fitted))
    vector = SteeringVector(result.dimension, tuple(directions), lineage)
    probe = None
    # Beside a control, a probe that reads the true labels would contradict it.
    # A probe's threshold holds neither on another model's activations nor for another reading of them.
    if answer_probe is not None:
        probe = answer_probe.with_lineage(result.dimension, lineage)
    elif not first.is_control and texts is None and target is None:
        probe = LinearProbe(result.dimension, lowest, direction.probe_weights, direction.probe_bias, lineage)
    told = {**metrics, **(answer_probe.metrics() if answer_probe else {})}
    named = {f"{result.dimension}/{name}": value for name, value in told.items()}
    digest = version_digest(result.digest, fitted, lineage.target_digest)
    return store.register(vector, probe, named, unit_digest=probed_digest(digest) if answer_probe else digest)


def as_direction(result: UnitResult, layer: int, fitted: FittedDirection) -> Direction:
    """A fitted direction as a vector has it at a layer."""
    texts = fitted.texts or result.direction(layer).mass_mean
    return Direction(layer, fitted.unit, fitted.scale, texts.mean_difference_norm, fitted.projection_mean)


def champion_place(model: str, dimension: str) -> Place:
    """The layers of the vector that is served. Raises ``NotFound`` where there is none."""
    return VectorStore().get(vector_name(model, dimension), f"@{CHAMPION}").layers


def version_digest(unit_digest: str, fitted: Fitted, target_digest: str) -> str:
    """Tells versions of one unit and layers apart by method, its code, draw, target, texts; trained ones by the vector.

    Training has many settings, and the same ones may give another vector on another machine.
    """
    first = next(iter(fitted.values()))
    texts = first.texts.digest if first.texts else ""
    if first.method == OPTIMISED:
        texts += hashlib.sha256(b"".join(direction.unit.tobytes() for direction in fitted.values())).hexdigest()
    code = VERSIONS[first.method]
    method = first.label if code == 1 else f"{first.label} code {code}"  # as versions before there were others
    return _digest(f"{unit_digest} {method} {target_digest}{texts}".strip())


def probed_digest(digest: str) -> str:
    """Tells a version with a probe of its answers from the same vector without one, as versions of before are."""
    return _digest(f"{digest} probe {PROBE_VERSION}")


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:32]
