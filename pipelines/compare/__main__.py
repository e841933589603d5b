"""Put finished probing runs of several series, such as seeds or sizes of a model, on one figure a dimension.

    python -m pipelines.compare --models tiny:0,tiny:1,tiny:2
    mlflow run . -e compare --env-manager local -P models=EleutherAI/pythia-70m,EleutherAI/pythia-160m

The newest finished run of `probe` is read from MLflow for each model; nothing is measured. The spread between series
stands beside the interval over statements, and the onsets beside their median.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.compare.options import CompareOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(CompareOptions, "compare", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.compare.experiment import run_comparing

    run_comparing(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
