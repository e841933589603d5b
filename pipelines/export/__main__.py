"""Write the champions of a model as one folder: vectors, probes, calibrations, lineage, a card, GGUF control vectors.

    python -m pipelines.export --model tiny
    mlflow run . -e export --env-manager local -P model=smollm2 -P to=packs/smollm2

Every file is listed with its SHA-256, and equal packs are equal bytes. The card shows an example for each dimension
that works, written here. `baked=true` also writes a checkpoint that needs no runtime that can steer: its offsets are
biases. The folder goes into another registry by `-e import`, or onto the Hugging Face hub as it is.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.export.options import ExportOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(ExportOptions, "export", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.export.experiment import run_export

    run_export(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
