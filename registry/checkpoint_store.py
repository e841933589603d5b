"""Checkpoints in the MLflow registry: one that exists is found, another is registered; weights stay where they are.

A checkpoint is ``ckpt.<model>`` with alias ``step-<n>``.
"""

from collections.abc import Mapping

import mlflow
from mlflow.entities.model_registry import ModelVersion

from registry.checkpoints import Checkpoint
from registry.errors import NotFound
from registry.mlflow_client import (
    ModelVersions,
    aliases_of,
    all_versions,
    connect,
    ensure_model,
    logged_name,
    model_id_of,
    reachable,
    set_alias,
)
from registry.records import (
    CHECKPOINT_TAGS,
    RegisteredCheckpoint,
    checkpoint_alias,
    checkpoint_name,
    checkpoint_tags,
)


class CheckpointStore:
    """The checkpoints of every series. It remembers what it registered, so keep one for a sweep."""

    def __init__(self) -> None:
        self._client = connect()
        self._registered: dict[tuple[Checkpoint, str], RegisteredCheckpoint] = {}
        self._versions_of: dict[str, ModelVersions] = {}

    def register(self, checkpoint: Checkpoint, weights_digest: str) -> RegisteredCheckpoint:
        """The version of ``checkpoint`` with these weights: the one that exists, or a new one."""
        key = checkpoint, weights_digest
        if key not in self._registered:
            with reachable():
                self._registered[key] = self._find_or_create(checkpoint, weights_digest)
        return self._registered[key]

    def _find_or_create(self, checkpoint: Checkpoint, weights_digest: str) -> RegisteredCheckpoint:
        name, alias = checkpoint_name(checkpoint.model), checkpoint_alias(checkpoint)
        tags = checkpoint_tags(checkpoint, weights_digest)
        identity = {key: tags[key] for key in ("weights_digest", "revision")}
        if name not in self._versions_of:
            self._versions_of[name] = ModelVersions(self._client, name)
        existing = self._versions_of[name].find(identity)
        version = existing or self._create(checkpoint, name, identity, tags)
        if existing is None or alias not in aliases_of(self._client, name):
            set_alias(self._client, name, alias, str(version.version))
        return _checkpoint(version)

    def _create(
        self, checkpoint: Checkpoint, name: str, identity: Mapping[str, str], tags: Mapping[str, str]
    ) -> ModelVersion:
        versions = self._versions_of[name]
        if versions.is_empty:
            place = f"the weights stay in `{checkpoint.repo}`"
            ensure_model(self._client, name, f"Pre-training checkpoints of `{checkpoint.model}`, by step; {place}.")
        external = mlflow.create_external_model(
            name=logged_name(f"{name} {checkpoint.label}"),
            model_type="pretraining-checkpoint",
            params=dict(tags),
            tags={"model": checkpoint.model},
        )
        description = f"`{checkpoint.repo}` at revision `{checkpoint.revision}`: {checkpoint.caption}"
        return versions.create(identity, model_id=external.model_id, tags=tags, description=description)

    def get(self, model: str, step: int) -> RegisteredCheckpoint:
        """The newest version of a step of the first stage. Raises ``NotFound``, naming the steps that exist."""
        versions = [version for version in self.list(model) if version.tags.get("stage", "stage1") == "stage1"]
        for version in versions:
            if version.step == step:
                return version
        known = ", ".join(str(step) for step in sorted({version.step for version in versions})) or "none"
        raise NotFound(f"{checkpoint_name(model)} has no checkpoint of step {step}; registered steps: {known}")

    def list(self, model: str) -> list[RegisteredCheckpoint]:
        """All versions, the newest first; one that somebody registered by hand, without our tags, is left out."""
        with reachable():
            versions = all_versions(self._client, checkpoint_name(model))
        return [_checkpoint(version) for version in versions if version.tags.keys() >= CHECKPOINT_TAGS]


def _checkpoint(version: ModelVersion) -> RegisteredCheckpoint:
    return RegisteredCheckpoint(version.name, str(version.version), model_id_of(version), dict(version.tags))
