"""Pre-train the embedded checkpoint series `tiny`, with its loss curve in MLflow.

    python -m pipelines.pretrain
    mlflow run . -e pretrain -P seed=1 -P corpus=./my-texts

A series is made once for each seed, corpus and configuration and then found by content; an interrupted training goes on
where it was last saved. Probing `tiny` trains it by itself if need be.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import command_parser


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    from pipelines.pretrain.progress import ensure_series_with_bar
    from pipelines.pretrain.series import SeriesConfig
    from pipelines.pretrain.tracking import log_series
    from pipelines.pretrain.trainer import TrainingConfig
    from pipelines.tracking.runs import entry_point_run

    config = SeriesConfig(training=TrainingConfig(seed=given.seed, steps=given.steps), corpus=given.corpus)
    with entry_point_run("pretrain tiny", vars(given)) as run:
        directory = ensure_series_with_bar(config)
        log_series(run.info.run_id, directory)
    steps = ", ".join(map(str, config.training.checkpoint_steps))
    print(f"\ncheckpoints at steps {steps} in {directory}")  # noqa: T201
    print(f"next: mlflow run . -e probe --env-manager local -P model={_model(given, directory)}")  # noqa: T201


def _model(given: argparse.Namespace, directory: object) -> str:
    """`tiny` names the default series; any other is named by its directory."""
    default = _parser().parse_args([])
    return "tiny" if vars(given) == vars(default) else str(directory)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pretrain", __doc__)
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, corpus and batches [%(default)s]")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps of 1,024 tokens [%(default)s]")
    parser.add_argument("--corpus", default="packaged", help="packaged, or .txt or .jsonl files [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
