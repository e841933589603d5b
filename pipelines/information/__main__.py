"""Measure what layers tell of their input and of trustworthiness during pre-training, beside what could feign it.

    python -m pipelines.information --model tiny
    mlflow run . -e information --env-manager local -P model=EleutherAI/pythia-70m -P warmup_steps=1430

At every layer of every selected checkpoint: normalised HSIC of activations T with the input X and the label Y, with
permutation nulls; usable information in bits, also beyond an n-gram model; the spectrum. Then the two phases of
arXiv 2402.19465 are looked for, and when each dimension becomes readable.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.information.options import InformationOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(InformationOptions, "information", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.information.experiment import run_information

    run_information(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
