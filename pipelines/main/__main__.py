"""Everything in order: probe a series, look at its information, make vectors, calibrate and evaluate them, report.

    mlflow run . -P model=tiny
    python -m pipelines.main --model smollm2 --stages calibrate,evaluate,report

Each stage is a run of its own below this one, and is skipped when a finished run had the same inputs: arguments,
weights, statements, code, champions, and the stages before it. What failed or was interrupted is done again.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import add_device, add_series, add_statements, command_parser
from pipelines.statements.choice import choose_dimensions


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    from pipelines.main.workflow import chosen_stages, run_chain

    run_chain(chosen_stages(given.stages, given.model), dimensions, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("main", __doc__)
    add_series(parser, "tiny", "log:12", "; for probe")
    add_statements(parser)
    add = parser.add_argument
    add("--stages", default="all", help="all, or names separated by commas, in their order [%(default)s]")
    add("--seeds", type=int, default=3, help="how many times the statements are split into folds [%(default)s]")
    add("--trace", default="none", help="as for evaluate [%(default)s]")
    add_device(parser)
    add("--output", default="none", help="a file for the report, beside what is logged [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
