"""Find how far a model can be steered: the layer and the strengths at which each registered direction works.

    python -m pipelines.calibrate --model smollm2
    mlflow run . -e calibrate --env-manager local -P model=EleutherAI/pythia-70m -P checkpoint=last

For each dimension the directions of several layers, by one method or several, are tried at a few strengths on held-out
statements and held-out prose, and so are registered vectors that are named. The best is registered with its whole curve
and its safe range, which a service enforces.
"""

import sys
from collections.abc import Sequence

from pipelines.calibrate.options import CalibrateOptions
from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(CalibrateOptions, "calibrate", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.calibrate.experiment import run_calibration

    run_calibration(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
