"""Fine-tunings in MLflow: the loss curve, and the checkpoint that was made beside its parent."""

from collections.abc import Sequence
from pathlib import Path

import mlflow

from pipelines.finetune.training import EpochLoss
from pipelines.tracking.runs import log_points
from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint
from registry.records import RegisteredCheckpoint


def log_losses(run_id: str, losses: Sequence[EpochLoss]) -> None:
    """``loss/training`` and ``loss/validation`` by epoch, in nats per token; epoch 0 is the model as it was."""
    log_points(run_id, [("loss/training", loss.training, loss.epoch) for loss in losses])
    log_points(run_id, [("loss/validation", loss.validation, loss.epoch) for loss in losses])


def register_finetuned(
    parent: Checkpoint, parent_digest: str, child: Checkpoint, child_digest: str, manifest: Path
) -> RegisteredCheckpoint:
    """Both checkpoints in the registry, and their references on the run."""
    store = CheckpointStore()
    source = store.register(parent, parent_digest)
    made = store.register(child, child_digest)
    mlflow.set_tags({"parent_checkpoint": source.uri, "finetuned_checkpoint": made.uri, "directory": child.repo})
    mlflow.log_artifact(str(manifest))
    return made
