"""Evaluate steering: each dimension's vector beside the model as it is, random directions, a prompt and fine-tuning.

    python -m pipelines.evaluate --model smollm2
    mlflow run . -e evaluate --env-manager local -P model=smollm2 -P vectors=steer.smollm2.toxicity/3

Every score is of statements and benchmarks that no vector was fitted or calibrated on. Vectors are taken from the
registry, at the strength that their calibration recommends; texts are continued by the engine that serves.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.evaluate.options import EvaluateOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(EvaluateOptions, "evaluate", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.evaluate.experiment import run_evaluation

    run_evaluation(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
