"""Find where and when trustworthiness becomes readable, and register the steering vectors found there.

    python -m pipelines.probe --model tiny
    mlflow run . -e probe -P model=EleutherAI/pythia-70m -P checkpoints=log:8 -P dimensions=toxicity,fairness

Every dimension's statements are read once at every layer of every selected checkpoint; probes are fitted with their
controls; a mass-mean vector is registered for each dimension and checkpoint.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import add_device, add_scale, add_series, add_statements, command_parser, is_true
from pipelines.statements.choice import choose_dimensions
from registry.errors import unknown_name

REGISTER = ("best", "all", "none")


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    if given.register not in REGISTER:
        raise unknown_name("choice of vectors to register", given.register, REGISTER)
    delete_after_use, keep_activations = is_true(given, "delete_after_use"), is_true(given, "keep_activations")
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    from pipelines.probe.experiment import ProbeOptions, run_probing
    from pipelines.sweep.executors import choose_executor
    from pipelines.sweep.protocol import ProbeSettings

    settings = ProbeSettings(
        protocol=given.protocol,
        pooling=given.pooling,
        layers=given.layers,
        seeds=given.seeds,
        precision=given.precision,
        device=given.device,
        device_map=None if given.device_map == "none" else given.device_map,
        keep_activations=keep_activations,
    )
    options = ProbeOptions(
        model=given.model,
        checkpoints=given.checkpoints,
        dimensions=dimensions,
        data=given.data,
        limit=given.limit,
        register=given.register,
        delete_after_use=delete_after_use,
        settings=settings,
        executor=choose_executor(given.executor, given.address),
    )
    run_probing(options, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("probe", __doc__)
    add_series(parser, "tiny", "log:12", "; init may be added")
    add_statements(parser)
    add = parser.add_argument
    add("--layers", default="all", help="all, or numbers separated by commas [%(default)s]")
    add("--pooling", default="last", help="last or mean: which tokens' activations [%(default)s]")
    add("--protocol", default="sound", help="sound, or paper: arXiv 2402.19465 as released [%(default)s]")
    add("--seeds", type=int, default=3, help="how many times the statements are split into folds [%(default)s]")
    add("--register", default="best", help="best (deep layer), all (layers) or none: vectors to register [%(default)s]")
    add_device(parser)
    add_scale(parser)
    add("--keep-activations", default="false", help="true keeps activations, a file a unit, in the cache [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
