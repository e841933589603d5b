"""Data: counts, leakage, giveaways of the statements, and the floors that a probe must beat, before any probe.

    python -m pipelines.data
    python -m pipelines.data --data ./my-statements --dimensions toxicity,privacy
    python -m pipelines.data --data hub --dimensions fairness

Prints a report for each dimension, logs it to MLflow, and fails when a probe of it would be refused: one class,
conflicting labels, a split that leaks.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.data.options import DataOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(DataOptions, "data", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.data.experiment import run_inspection

    run_inspection(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
