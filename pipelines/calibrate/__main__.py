"""Find how far a model can be steered: the layer and the strengths at which each registered direction works.

    python -m pipelines.calibrate --model smollm2
    mlflow run . -e calibrate --env-manager local -P model=EleutherAI/pythia-70m -P checkpoint=last

For each dimension the directions of several layers, by one method or several, are tried at a few strengths on held-out
statements and held-out prose, and so are registered vectors that are named. The best is registered with its whole curve
and its safe range, which a service enforces.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli.command import listed, run_command
from pipelines.cli.parameters import add_device, add_one_checkpoint, add_probe_seeds, add_statements, command_parser
from pipelines.statements.choice import choose_dimensions


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    from pipelines.calibrate.experiment import CalibrateOptions, run_calibration
    from pipelines.sweep.protocol import ProbeSettings
    from pipelines.vectors.methods import choose_methods

    options = CalibrateOptions(
        model=given.model,
        checkpoint=given.checkpoint,
        dimensions=dimensions,
        data=given.data,
        limit=given.limit,
        layers=given.layers,
        methods=choose_methods(given.methods),
        vectors=listed(given.vectors),
        settings=ProbeSettings(seeds=given.seeds, precision=given.precision, device=given.device),
    )
    run_calibration(options, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("calibrate", __doc__)
    add_one_checkpoint(parser)
    add_statements(parser)
    add = parser.add_argument
    add("--layers", default="auto", help="layers to try, separated by commas; auto spreads five [%(default)s]")
    add("--methods", default="mass-mean", help="to choose from: all, none, or as for vectors [%(default)s]")
    add("--vectors", default="none", help="registered ones to choose from, such as steer.tiny.toxicity/3 [%(default)s]")
    add_probe_seeds(parser)
    add_device(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
