"""The pre-training experiment, from a user's options to a checkpoint series with its loss curve."""

from pipelines.cli.pasting import mlflow_run
from pipelines.pretrain.options import SeriesConfig
from pipelines.pretrain.progress import ensure_series_with_bar
from pipelines.pretrain.tracking import log_training
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.runs import entry_point_run
from registry.counts import counted
from registry.embedded import embedded_name


def run_pretraining(config: SeriesConfig) -> None:
    """Train the series unless it was trained before, log its curve, and print where it lies."""
    name = embedded_name(config.training.seed)
    with entry_point_run(f"pretrain {name}", config.params()) as run:
        directory = ensure_series_with_bar(config)
        log_training(run.info.run_id, directory)
        steps = config.training.checkpoint_steps
        print(f"\ncheckpoints at steps {', '.join(map(str, steps))} in {directory}")  # noqa: T201
        model = name if config == SeriesConfig().with_seed(config.training.seed) else str(directory)
        conclude(
            run,
            Conclusion(
                verdict=f"Trained: {counted(len(steps), 'checkpoint')} of {name}, steps {steps[0]:,} to {steps[-1]:,}.",
                next=mlflow_run("probe", model=model),
            ),
        )
