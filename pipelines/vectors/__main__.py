"""Make steering vectors by several methods, with random and shuffled-label controls beside them.

    python -m pipelines.vectors --model smollm2
    mlflow run . -e vectors -P model=EleutherAI/pythia-70m -P checkpoints=log:4 -P methods=mass-mean,lda

For each dimension and checkpoint a vector by each method is fitted at one layer, on the statements that probing fits
on, and registered with what it tells apart on the others. None becomes champion: calibrate decides on that.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import add_device, add_probe_seeds, add_series, add_statements, command_parser
from pipelines.statements.choice import choose_dimensions
from registry.errors import InvalidInput


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    if given.controls < 0:
        raise InvalidInput(f"controls is {given.controls}; give how many of each kind to register, 0 for none")
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    from pipelines.sweep.protocol import ProbeSettings
    from pipelines.vectors.experiment import VectorOptions, run_extraction
    from pipelines.vectors.methods import choose_methods

    options = VectorOptions(
        model=given.model,
        checkpoints=given.checkpoints,
        dimensions=dimensions,
        data=given.data,
        limit=given.limit,
        layers=given.layers,
        methods=choose_methods(given.methods),
        n_controls=given.controls,
        target="" if given.target == "none" else given.target,
        settings=ProbeSettings(seeds=given.seeds, precision=given.precision, device=given.device),
    )
    run_extraction(options, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("vectors", __doc__)
    add_series(parser, "tiny", "last")
    add_statements(parser)
    add = parser.add_argument
    add("--layers", default="best", help="best (of the deeper half, by probe), champion, or numbers [%(default)s]")
    add("--methods", default="all", help="all, or of mass-mean,mean-centred,pca,logistic,lda [%(default)s]")
    add("--controls", type=int, default=1, help="so many random and so many shuffled-label vectors [%(default)s]")
    add("--target", default="none", help="another model of this width that the vectors are for [%(default)s]")
    add_probe_seeds(parser)
    add_device(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
