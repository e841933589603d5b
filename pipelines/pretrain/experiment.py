"""The pre-training experiment, from a user's options to a checkpoint series with its loss curve."""

from pipelines.pretrain.options import SeriesConfig
from pipelines.pretrain.progress import ensure_series_with_bar
from pipelines.pretrain.tracking import log_series
from pipelines.tracking.runs import entry_point_run


def run_pretraining(config: SeriesConfig) -> None:
    """Train the series unless it was trained before, log its curve, and print where it lies."""
    with entry_point_run("pretrain tiny", config.params()) as run:
        directory = ensure_series_with_bar(config)
        log_series(run.info.run_id, directory)
    steps = ", ".join(map(str, config.training.checkpoint_steps))
    model = "tiny" if config == SeriesConfig() else str(directory)
    print(f"\ncheckpoints at steps {steps} in {directory}")  # noqa: T201
    print(f"next: mlflow run . -e probe --env-manager local -P model={model}")  # noqa: T201
