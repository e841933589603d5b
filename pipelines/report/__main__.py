"""Write one page about a model: every figure of its runs, with n, interval, control and exact configuration.

    python -m pipelines.report --model tiny
    mlflow run . -e report --env-manager local -P model=smollm2 -P output=./smollm2.html

The newest finished run of each entry point is read from MLflow; the page is logged there too, and needs nothing
beside itself: it can be mailed.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.report.options import ReportOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(ReportOptions, "report", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.report.page import run_reporting

    run_reporting(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
