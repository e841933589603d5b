"""GGUF import: a control vector that another program trained, registered as a version that a service can serve."""

import hashlib

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from registry.dimensions import require_dimension_name
from registry.errors import InvalidInput, Mismatch
from registry.gguf import IMPORT_METHOD, vector_from_gguf
from registry.records import RegisteredCheckpoint, RegisteredVector, checkpoint_name
from registry.store import VectorStore
from registry.vectors import Lineage, SteeringVector


def import_gguf(
    content: bytes, dimension: str, checkpoint: RegisteredCheckpoint, store: VectorStore | None = None
) -> RegisteredVector:
    """Register a GGUF control vector under the active run, once, with its direction at each of its layers.

    ``checkpoint`` is the registered model that it was trained on, whatever the file says; the digest of the file stands
    for the statements that nobody knows. Strength 1 is the file at scale 1. Raises ``CorruptFile``, ``Mismatch`` for
    another width than that of vectors of the same weights, and ``InvalidInput`` without an active run.
    """
    run = mlflow.active_run()
    if run is None:
        raise InvalidInput("an import is registered under a run: call it inside `with mlflow.start_run():`")
    require_dimension_name(dimension)
    digest = hashlib.sha256(content).hexdigest()
    lineage = Lineage(
        model=checkpoint.name.removeprefix(checkpoint_name("")),
        checkpoint_uri=checkpoint.uri,
        checkpoint_step=checkpoint.step,
        checkpoint_revision=checkpoint.tags["revision"],
        weights_digest=checkpoint.tags["weights_digest"],
        statements_digest=digest,
        statements_source="GGUF file",
        method=IMPORT_METHOD,
        run_id=run.info.run_id,
        code_commit=run.data.tags.get(MLFLOW_GIT_COMMIT, "unknown"),
        n_train=0,
    )
    store = store or VectorStore()
    vector = vector_from_gguf(content, dimension=dimension, lineage=lineage)
    _require_width(vector, store)
    return store.register(vector, None, {}, unit_digest=digest)


def _require_width(vector: SteeringVector, store: VectorStore) -> None:
    """Raise ``Mismatch`` unless ``vector`` is as wide as what is registered for its weights, if anything is."""
    same_weights = (
        version
        for version in store.list(vector.lineage.model)
        if version.tags.get("weights_digest") == vector.lineage.weights_digest
    )
    for version in same_weights:
        width = version.tags.get("d_model", str(vector.d_model))
        if width != str(vector.d_model):
            raise Mismatch(
                f"the control vector is {vector.d_model} wide and {version.uri}, of the same weights, is {width}: give "
                "the checkpoint that it was trained on"
            )
