"""Make steering vectors by several methods, with random and shuffled-label controls beside them.

    python -m pipelines.vectors --model smollm2
    mlflow run . -e vectors --env-manager local -P model=EleutherAI/pythia-70m -P methods=mass-mean,lda

For each dimension and checkpoint a vector by each method is fitted at one layer, on the statements that probing fits
on, and registered with what it tells apart on the others. None becomes champion: calibrate decides on that.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.vectors.options import VectorOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(VectorOptions, "vectors", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.vectors.experiment import run_extraction

    run_extraction(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
