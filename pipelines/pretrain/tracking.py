"""A pre-training run in MLflow: its loss curve and what it was trained on."""

from pathlib import Path

import mlflow

from pipelines.pretrain.series import loss_curve
from pipelines.pretrain.trainer import MANIFEST
from pipelines.tracking.runs import DESCRIPTION, child_run, log_points


def log_training(run_id: str, directory: Path) -> None:
    """Log the loss of every step, and the manifest with the corpus' card, of a finished series."""
    records = loss_curve(directory)
    log_points(run_id, [("training_loss_nats", record.loss, record.step) for record in records])
    mlflow.log_artifact(str(directory / MANIFEST))


def log_training_below(name: str, directory: Path) -> None:
    """The same of a series that another command trained first, in a run below that command's."""
    run = mlflow.active_run()
    if run is not None:
        with child_run(f"pretrain {name}", {DESCRIPTION: _described(name, directory)}, run) as below:
            log_training(below.info.run_id, directory)


def _described(name: str, directory: Path) -> str:
    losses = loss_curve(directory)
    first, last = losses[0], losses[-1]
    return (
        f"**Training of {name}: loss {first.loss:.2f} → {last.loss:.2f} nats per token, steps {first.step:,} to "
        f"{last.step:,}.**\n\n`training_loss_nats` is over steps; {MANIFEST} says what was trained on. The checkpoints "
        f"lie in `{directory}`."
    )
