"""Data: counts, leakage, giveaways of the statements, and the floors that a probe must beat, before any probe.

    python -m pipelines.data
    python -m pipelines.data --data ./my-statements --dimensions toxicity,privacy
    python -m pipelines.data --data hub --dimensions fairness

Prints a report for each dimension, logs it to MLflow, and fails when a probe of it would be refused: one class,
conflicting labels, a split that leaks.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import command_parser
from pipelines.statements.choice import choose_dimensions


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    from pipelines.statements.inspection import inspect_statements, refuse, render
    from pipelines.statements.sources import load_statements
    from pipelines.tracking.quality import log_quality
    from pipelines.tracking.runs import entry_point_run
    from pipelines.tracking.units import log_statements

    with entry_point_run("data", vars(given)):
        reports = []
        for dimension in dimensions:
            reports += inspect_statements((dimension,), given.data, limit=given.limit, seed=given.seed)
            print(render(reports[-1]), end="\n\n")  # noqa: T201
        log_quality(reports)
        refuse(reports)
        log_statements(
            load_statements(dimension, given.data, limit=given.limit, seed=given.seed) for dimension in dimensions
        )
    chosen = shlex.join(["-P", f"data={given.data}", "-P", f"dimensions={given.dimensions}"])
    print(f"next: mlflow run . -e probe --env-manager local {chosen}")  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("data", __doc__)
    add = parser.add_argument
    add("--data", default="packaged", help="packaged, hub, a directory, a file, or dimension=source,… [%(default)s]")
    add("--dimensions", default="all", help="all, or names separated by commas [%(default)s]")
    add("--limit", type=int, default=0, help="at most so many statements a dimension, 0 for all [%(default)s]")
    add("--seed", type=int, default=0, help="of drawn statements, folds and intervals [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
