"""Find where and when trustworthiness becomes readable, and register the steering vectors found there.

    python -m pipelines.probe --model tiny
    mlflow run . -e probe --env-manager local -P model=EleutherAI/pythia-70m -P checkpoints=log:8

Every dimension's statements are read once at every layer of every selected checkpoint; probes are fitted with their
controls; a mass-mean vector is registered for each dimension and checkpoint.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.probe.options import ProbeOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(ProbeOptions, "probe", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.probe.experiment import run_probing

    run_probing(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
