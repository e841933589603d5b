"""Pre-train the embedded checkpoint series `tiny`, with its loss curve in MLflow.

    python -m pipelines.pretrain
    mlflow run . -e pretrain --env-manager local -P seed=1 -P corpus=./my-texts

A series is made once for each seed, corpus and configuration and then found by content; an interrupted training goes on
where it was last saved. Probing `tiny` trains it by itself if need be.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.pretrain.options import SeriesConfig
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(SeriesConfig, "pretrain", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.pretrain.experiment import run_pretraining

    run_pretraining(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
