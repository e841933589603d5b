"""Pack exchange: registered vectors made into a pack, and a pack registered where it is not yet.

An import ends with the same versions however often it is run, and goes on where it was cut short. What a registry has
already stays as it is: neither a version nor a champion is replaced.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint
from registry.descriptions import (
    describe_calibrated,
    describe_imported,
    describe_uncalibrated,
    describe_vector,
    summary_of,
)
from registry.errors import CorruptFile, InvalidInput, NotFound
from registry.examples import Example
from registry.mlflow_client import connect, ensure_experiment, reachable
from registry.pack_folder import StoredPack
from registry.packs import Pack, PackedModel, PackedVector
from registry.records import (
    BECAUSE_TAG,
    CHAMPION,
    EXAMPLE_TAG,
    EXPERIMENT,
    IMPORTED_TAG,
    PACK_TAG,
    RegisteredVector,
    calibration_tags,
    vector_tags,
)
from registry.store import VectorStore
from registry.version_tags import RETIRED_TAGS


@dataclass(frozen=True)
class PackImport:
    """What an import left in the registry."""

    vectors: tuple[RegisteredVector, ...]
    """One a dimension of the pack: registered now, or there already."""
    registered: tuple[str, ...] = ()
    """Dimensions whose version is new."""
    promoted: tuple[str, ...] = ()
    """Dimensions that had no champion and have one now."""
    kept: Mapping[str, RegisteredVector] = field(default_factory=dict)
    """Dimensions whose champion is another version, which stays."""

    @property
    def changed(self) -> bool:
        return bool(self.registered or self.promoted)


def packed_vectors(model: PackedModel, versions: Sequence[RegisteredVector], examples: Mapping[str, Example]) -> Pack:
    """The pack of these versions, one a dimension; ``examples`` are by dimension."""
    with reachable():
        client, store = connect(), VectorStore()
        packed = [_packed(client, store, version, examples.get(version.dimension)) for version in versions]
    return Pack(model, tuple(sorted(packed, key=lambda vector: vector.dimension)))


def keep_examples(versions: Sequence[RegisteredVector], examples: Mapping[str, Example]) -> None:
    """Let the versions that were packed show their examples too; ``examples`` are by dimension."""
    store = VectorStore()
    with reachable():
        for version in versions:
            if version.dimension in examples:
                text = examples[version.dimension].to_json()
                store.annotate(version, {EXAMPLE_TAG: text})


def _packed(
    client: MlflowClient, store: VectorStore, version: RegisteredVector, example: Example | None
) -> PackedVector:
    vector, probe = store.load_with_probe(version)
    calibration = version.calibration
    unit_digest = version.tags.get("unit_digest", "")
    derived = {*vector_tags(vector, unit_digest), *(calibration_tags(calibration) if calibration else {})}
    derived |= {EXAMPLE_TAG, IMPORTED_TAG, PACK_TAG, BECAUSE_TAG, *RETIRED_TAGS}
    kept = {name: value for name, value in version.tags.items() if name not in derived and "mlflow." not in name}
    return PackedVector(
        vector,
        probe,
        _checkpoint_of(vector.lineage.model, version),
        unit_digest,
        version.tags.get(IMPORTED_TAG, version.uri),
        calibration,
        version.tags.get(BECAUSE_TAG, ""),
        summary_of(client.get_model_version(version.name, version.version).description or ""),
        example,
        kept,
        _metrics(client, version),
    )


def _checkpoint_of(model: str, version: RegisteredVector) -> Checkpoint:
    """The registered checkpoint; where it lies on one machine alone, its name stands for it."""
    for registered in CheckpointStore().list(model):
        if registered.uri == version.checkpoint_uri:
            checkpoint = registered.checkpoint
            return replace(checkpoint, repo=public_repo(checkpoint.repo))
    return Checkpoint(model, "", version.tags.get("checkpoint_revision", ""), version.checkpoint_step)


def public_repo(repo: str) -> str:
    """``repo`` without the directories of this machine."""
    return Path(repo).name if Path(repo).is_absolute() else repo


def _metrics(client: MlflowClient, version: RegisteredVector) -> dict[str, float]:
    """Of the logged model. MLflow adds those of models that the run logged before, which name their dimension."""
    try:
        metrics = client.get_logged_model(version.model_id).metrics or []
    except MlflowException:
        return {}
    return {metric.key: metric.value for metric in metrics if metric.key.startswith(f"{version.dimension}/")}


def import_pack(stored: StoredPack, checkpoint: Checkpoint, weights_digest: str) -> PackImport:
    """Register a pack's vectors for ``checkpoint`` under the active run, as champions where there are none. A vector
    that text has shown not to work since it was imported before becomes none again.

    Raises ``Mismatch`` for a model that the pack was not made for, ``InvalidInput`` without an active run.
    """
    run = mlflow.active_run()
    if run is None:
        raise InvalidInput("an import is registered under a run: call it inside `with mlflow.start_run():`")
    stored.pack.model.require_is(checkpoint.model, weights_digest)
    store, checkpoints = VectorStore(), CheckpointStore()
    vectors, registered, promoted, kept = [], [], [], {}
    for packed in stored.pack.vectors:
        with _accepted(stored, packed):
            version, is_new = _registered(store, checkpoints, packed, stored, checkpoint, run.info.run_id)
            champion = _champion(store, version)
            if champion is None and (is_new or not version.is_refuted):
                store.promote(version, reason=packed.because or f"imported from {packed.origin}")
                promoted.append(packed.dimension)
            elif champion is not None and champion.version != version.version:
                kept[packed.dimension] = champion
            registered += [packed.dimension] if is_new else []
            version = store.get(version.name, version.version)
            vectors.append(store.compare(version) if is_new else version)
    return PackImport(tuple(vectors), tuple(registered), tuple(promoted), kept)


@contextmanager
def _accepted(stored: StoredPack, packed: PackedVector) -> Iterator[None]:
    """Say in a sentence that MLflow refuses a name, tag or metric of a pack: no export wrote it."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        reason = str(error.message).partition("\n")[0][:200]
        raise CorruptFile(
            f"{stored.directory} has a vector for {packed.dimension} that MLflow does not register ({reason}): fetch "
            "the pack again"
        ) from error


def _registered(
    store: VectorStore,
    checkpoints: CheckpointStore,
    packed: PackedVector,
    stored: StoredPack,
    local: Checkpoint,
    run_id: str,
) -> tuple[RegisteredVector, bool]:
    """The version of a packed vector, and whether it is new."""
    fitted_on = checkpoints.register(_here(packed.checkpoint, local), packed.vector.lineage.weights_digest)
    lineage = replace(packed.vector.lineage, checkpoint_uri=fitted_on.uri)
    vector = replace(packed.vector, lineage=lineage)
    probe = packed.probe and replace(packed.probe, lineage=lineage)
    existing = store.find(vector, packed.unit_digest)
    if existing is not None:
        return existing, False
    origin = describe_imported(describe_vector(vector, packed.metrics, probe), packed.origin, stored.digest)
    version = store.register(
        vector,
        probe,
        packed.metrics,
        unit_digest=packed.unit_digest,
        tags=_tags(packed, stored.digest),
        description=_description(origin, packed),
        run_id=run_id,
    )
    return version, True


def _description(origin: str, packed: PackedVector) -> str:
    """Packs of earlier versions have calibrations without a summary."""
    if packed.calibration is None and not packed.summary:
        return describe_uncalibrated(origin, packed.vector)
    return describe_calibrated(origin, packed.summary)


def _here(packed: Checkpoint, local: Checkpoint) -> Checkpoint:
    """A packed checkpoint where it lies here: a directory of the local model's series, or the hub as before."""
    is_elsewhere = packed.model != local.model or "/" in packed.repo or ":" in packed.repo
    return packed if is_elsewhere else replace(packed, repo=local.repo)


def _tags(packed: PackedVector, digest: str) -> dict[str, str]:
    example = {} if packed.example is None else {EXAMPLE_TAG: packed.example.to_json()}
    return {**packed.registered.tags, **example, IMPORTED_TAG: packed.origin, PACK_TAG: digest}


def _champion(store: VectorStore, version: RegisteredVector) -> RegisteredVector | None:
    try:
        return store.get(version.name, f"@{CHAMPION}")
    except NotFound:
        return None


def is_wanted(store: VectorStore, stored: StoredPack) -> bool:
    """Whether a registry has no vectors of the pack's model, or an import of this pack into it was cut short."""
    versions = store.list(stored.pack.model.name)
    if any(version.tags.get(PACK_TAG) != stored.digest for version in versions):
        return False
    return not versions or not _is_finished(stored.digest)


def _is_finished(digest: str) -> bool:
    """Whether an import of a pack came to its end: what is missing of it since was deleted on purpose."""
    query = f"attributes.status = 'FINISHED' and tags.{PACK_TAG} = '{digest}'"
    with reachable():
        return bool(mlflow.search_runs(search_all_experiments=True, filter_string=query, output_format="list"))


@contextmanager
def import_run(stored: StoredPack) -> Iterator[None]:
    """A run of its own for an import that no command began."""
    name = f"import {stored.pack.model.name}"
    with reachable():
        client = connect()
        place = ensure_experiment(client, EXPERIMENT)
        said = f"The registry had no vectors of {stored.pack.model.name}, so a service imported the pack that it has."
        tags = {"trusttrace.entry_point": "import", PACK_TAG: stored.digest, "mlflow.note.content": f"**{said}**"}
        with mlflow.start_run(experiment_id=place, run_name=name, tags=tags):
            yield
