"""Checkpoints and steering vectors in the MLflow registry: registered once, found by name, followed to their source.

A checkpoint is ``ckpt.<model>`` with alias ``step-<n>``; its weights stay where they are. A vector is
``steer.<model>.<dimension>``; the alias ``champion`` is the version a service serves. Every version carries its lineage
as tags, so that a person can follow it in the UI and a program can search by it.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from registry import flavor
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput, Mismatch, NotFound
from registry.vectors import LinearProbe, SteeringVector
from registry.versions import (
    all_versions,
    ensure_model,
    find_version,
    logged_name,
    model_id_of,
    quoted,
    reachable,
)

CHAMPION = "champion"
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class RegisteredCheckpoint:
    """One version of ``ckpt.<model>``."""

    name: str
    version: str
    step: int
    model_id: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class RegisteredVector:
    """One version of ``steer.<model>.<dimension>``, with the lineage in its tags."""

    name: str
    version: str
    run_id: str
    model_id: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def dimension(self) -> str:
        return self.tags["dimension"]

    @property
    def layer(self) -> int:
        return int(self.tags["layer"])

    @property
    def checkpoint_step(self) -> int:
        return int(self.tags["checkpoint_step"])


class CheckpointStore:
    """The checkpoints of every series. It remembers what it registered, so keep one for a sweep."""

    def __init__(self) -> None:
        self._client = MlflowClient()
        self._registered: dict[tuple[Checkpoint, str], RegisteredCheckpoint] = {}

    def register(self, checkpoint: Checkpoint, weights_digest: str) -> RegisteredCheckpoint:
        """The version of ``checkpoint`` with these weights: the one that exists, or a new one."""
        key = checkpoint, weights_digest
        if key not in self._registered:
            with reachable():
                self._registered[key] = self._find_or_create(checkpoint, weights_digest)
        return self._registered[key]

    def _find_or_create(self, checkpoint: Checkpoint, weights_digest: str) -> RegisteredCheckpoint:
        name = f"ckpt.{checkpoint.model}"
        tags = {
            "repo": checkpoint.repo,
            "revision": checkpoint.revision,
            "step": str(checkpoint.step),
            "weights_digest": weights_digest,
        }
        existing = find_version(self._client, name, {key: tags[key] for key in ("revision", "weights_digest")})
        if existing is not None:
            return _checkpoint(existing)
        ensure_model(self._client, name, f"Checkpoints of {checkpoint.model}; weights stay in {checkpoint.repo}.")
        external = mlflow.create_external_model(
            name=logged_name(f"{name} {checkpoint.label}"),
            model_type="pretraining-checkpoint",
            params=tags,
            tags={"model": checkpoint.model},
        )
        description = f"{checkpoint.repo} @ {checkpoint.revision}, {checkpoint.label}"
        version = self._client.create_model_version(
            name, f"models:/{external.model_id}", tags=tags, description=description, model_id=external.model_id
        )
        alias = "random-init" if checkpoint.is_random_init else f"step-{checkpoint.step}"
        self._client.set_registered_model_alias(name, alias, str(version.version))
        return RegisteredCheckpoint(name, str(version.version), checkpoint.step, external.model_id, tags)

    def get(self, model: str, step: int) -> RegisteredCheckpoint:
        """The newest version of a step. Raises ``NotFound``, naming the steps that exist."""
        versions = self.list(model)
        for version in versions:
            if version.step == step:
                return version
        known = ", ".join(sorted({str(version.step) for version in versions}, key=int)) or "none"
        raise NotFound(f"ckpt.{model} has no checkpoint of step {step}; registered steps: {known}")

    def list(self, model: str) -> list[RegisteredCheckpoint]:
        """All versions, the newest first."""
        with reachable():
            return [_checkpoint(version) for version in all_versions(self._client, f"ckpt.{model}")]


class VectorStore:
    """The steering vectors of every model."""

    def __init__(self) -> None:
        self._client = MlflowClient()
        self._models: set[str] = set()

    def register(
        self,
        vector: SteeringVector,
        probe: LinearProbe | None,
        metrics: Mapping[str, float],
        *,
        unit_digest: str,
    ) -> RegisteredVector:
        """Register ``vector`` under the active run, once for each (unit, layer).

        ``unit_digest`` names the measurement that it came from: a second registration returns the version that exists,
        so an interrupted sweep registers nothing twice.
        """
        name = vector_name(vector.lineage.model, vector.dimension)
        tags = _vector_tags(vector, unit_digest)
        with reachable():
            identity = {"unit_digest": unit_digest, "layer": str(vector.layer)}
            existing = find_version(self._client, name, identity)
            if existing is not None:
                return _vector(existing)
            if name not in self._models:
                ensure_model(self._client, name, f"Steers {vector.lineage.model} towards {vector.dimension}.")
                self._models.add(name)
            logged = flavor.log_model(
                logged_name(f"{name} step {vector.lineage.checkpoint_step} layer {vector.layer}"),
                vector,
                probe,
                params={key: tags[key] for key in ("checkpoint", "statements_source", "layer", "method")},
                tags=tags,
                step=max(0, vector.lineage.checkpoint_step),
            )
            if metrics:
                mlflow.log_metrics(dict(metrics), step=vector.lineage.checkpoint_step, model_id=logged.model_id)
            version = self._client.create_model_version(
                name,
                f"models:/{logged.model_id}",
                run_id=vector.lineage.run_id,
                tags=tags,
                description=_description(vector),
                model_id=logged.model_id,
            )
        return RegisteredVector(name, str(version.version), vector.lineage.run_id, str(logged.model_id), tags)

    def get(self, name: str, version: str) -> RegisteredVector:
        """A version by number, or by alias as ``@champion``. Raises ``NotFound``, naming those that exist."""
        with reachable():
            try:
                if version.startswith("@"):
                    return _vector(self._client.get_model_version_by_alias(name, version[1:]))
                return _vector(self._client.get_model_version(name, version))
            except MlflowException as error:
                if error.error_code not in _MISSING:
                    raise
                raise NotFound(f"{name} has no version {version}; {self._what_exists(name)}") from error

    def resolve(self, reference: str) -> RegisteredVector:
        """``steer.tiny.toxicity/3``, ``steer.tiny.toxicity@champion``, either with ``models:/`` before it."""
        bare = reference.removeprefix("models:/")
        if "@" in bare:
            name, _, alias = bare.partition("@")
            return self.get(name, f"@{alias}")
        name, separator, version = bare.rpartition("/")
        if not separator or not version.isdigit():
            raise InvalidInput(
                f"{reference!r} names no vector; write steer.<model>.<dimension>/<version> or …@champion"
            )
        return self.get(name, version)

    def list(self, model: str, dimension: str | None = None) -> list[RegisteredVector]:
        """All versions of a model's vectors, the newest first in each dimension."""
        prefix = vector_name(model, dimension or "")
        with reachable():
            pattern = prefix if dimension else f"{prefix}%"
            found = self._client.search_registered_models(f"name LIKE '{quoted(pattern)}'")
            names = [one.name for one in found if dimension is None or one.name == prefix]
            return [_vector(version) for name in sorted(names) for version in all_versions(self._client, name)]

    def load(self, registered: RegisteredVector, *, d_model: int | None = None) -> SteeringVector:
        """Download a vector and check it against its tags. Raises ``Mismatch`` when they disagree."""
        with self._directory(registered) as directory:
            vector = flavor.load_model(directory, d_model=d_model)
        for tag, value in (
            ("dimension", vector.dimension),
            ("layer", str(vector.layer)),
            ("weights_digest", vector.lineage.weights_digest),
        ):
            if registered.tags.get(tag) != value:
                raise Mismatch(f"{registered.uri} is tagged {tag}={registered.tags.get(tag)} and its file says {value}")
        return vector

    def load_probe(self, registered: RegisteredVector, *, d_model: int | None = None) -> LinearProbe | None:
        """The probe registered beside a vector, if there is one."""
        with self._directory(registered) as directory:
            return flavor.load_probe(directory, d_model=d_model)

    def promote(self, registered: RegisteredVector, *, reason: str, alias: str = CHAMPION) -> None:
        """Point ``alias`` at a version, and write down why."""
        with reachable():
            self._client.set_registered_model_alias(registered.name, alias, registered.version)
            self._client.set_model_version_tag(registered.name, registered.version, f"{alias}_because", reason)

    @contextmanager
    def _directory(self, registered: RegisteredVector) -> Iterator[str]:
        with reachable(), tempfile.TemporaryDirectory() as scratch:
            yield mlflow.artifacts.download_artifacts(artifact_uri=registered.uri, dst_path=scratch)

    def _what_exists(self, name: str) -> str:
        versions = [str(version.version) for version in all_versions(self._client, name)]
        if versions:
            return f"versions: {', '.join(reversed(versions))}"
        prefix = name.rsplit(".", 1)[0]
        found = [one.name for one in self._client.search_registered_models(f"name LIKE '{quoted(prefix)}%'")]
        return f"registered vectors: {', '.join(sorted(found)) or 'none'}"


def vector_name(model: str, dimension: str) -> str:
    return f"steer.{model}.{dimension}"


def _vector_tags(vector: SteeringVector, unit_digest: str) -> dict[str, str]:
    lineage = vector.lineage.to_strings()
    return {
        "dimension": vector.dimension,
        "layer": str(vector.layer),
        "d_model": str(vector.d_model),
        "checkpoint": lineage.pop("checkpoint_uri"),
        "unit_digest": unit_digest,
        **lineage,
    }


def _description(vector: SteeringVector) -> str:
    lineage = vector.lineage
    return (
        f"{lineage.method} direction for **{vector.dimension}** at layer {vector.layer}, fitted on {lineage.n_train} "
        f"statements of `{lineage.statements_source}`.\n\n"
        f"From checkpoint [{lineage.checkpoint_uri}](#/models/{_ui_path(lineage.checkpoint_uri)}) "
        f"(step {lineage.checkpoint_step}, revision `{lineage.checkpoint_revision}`) by run "
        f"`{lineage.run_id}` at commit `{lineage.code_commit[:12]}`."
    )


def _ui_path(uri: str) -> str:
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    return f"{name}/versions/{version}"


def _checkpoint(version: ModelVersion) -> RegisteredCheckpoint:
    tags = dict(version.tags)
    return RegisteredCheckpoint(version.name, str(version.version), int(tags["step"]), model_id_of(version), tags)


def _vector(version: ModelVersion) -> RegisteredVector:
    tags = dict(version.tags)
    return RegisteredVector(version.name, str(version.version), tags.get("run_id", ""), model_id_of(version), tags)
