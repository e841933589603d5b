"""Write one page about a model: every figure of its runs, with n, interval, control and exact configuration.

    python -m pipelines.report --model tiny
    mlflow run . -e report -P model=smollm2 -P output=./smollm2.html

The newest finished run of each entry point is read from MLflow; the page is logged there too, and needs nothing
beside itself: it can be mailed.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import command_parser


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    from pipelines.report.page import run_reporting

    run_reporting(given.model, given.output, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("report", __doc__)
    parser.add_argument("--model", default="smollm2", help="as it was given to the other commands [%(default)s]")
    parser.add_argument("--output", default="none", help="a file to write beside what is logged [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
