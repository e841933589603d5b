"""Everything in order: probe a series, look at its information, make vectors, calibrate and evaluate them, report.

    mlflow run . --env-manager local -P model=tiny
    python -m pipelines.main --model smollm2 --stages calibrate,evaluate,report

Each stage is a run of its own below this one, and is skipped when a finished run had the same inputs: arguments,
weights, statements, code, champions, and the stages before it. What failed or was interrupted is done again.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.main.options import MainOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(MainOptions, "main", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.main.workflow import run_chain

    run_chain(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
