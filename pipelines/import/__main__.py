"""Register the vectors of a pack for the model that it was made for, with lineage, calibration and probes.

    python -m pipelines.import --pack packs/tiny
    mlflow run . -e import --env-manager local -P pack=packs/smollm2

Every file is compared with its SHA-256 and the model's weights with those that the pack names; another model is
refused. A second import changes nothing, and one that was cut short is completed. A dimension that has a champion keeps
it.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from serving.imports import importing

from .options import ImportOptions


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(ImportOptions, "import", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from .experiment import run_import

    run_import(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
