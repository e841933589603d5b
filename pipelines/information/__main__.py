"""Measure what layers tell of their input and of trustworthiness during pre-training, beside what could feign it.

    python -m pipelines.information --model tiny
    mlflow run . -e information -P model=EleutherAI/pythia-70m -P checkpoints=log:16 -P warmup_steps=1430

At every layer of every selected checkpoint: normalised HSIC of activations T with the input X and the label Y, with
permutation nulls; usable information in bits, also beyond an n-gram model; the spectrum. Then the two phases of
arXiv 2402.19465 are looked for, and when each dimension becomes readable.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import add_device, add_scale, add_series, add_statements, command_parser, is_true
from pipelines.statements.choice import choose_dimensions
from registry.errors import InvalidInput


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    warmup = given.warmup_steps
    if warmup != "auto" and not warmup.isdigit():
        raise InvalidInput(f"warmup_steps {warmup!r} is neither 'auto' nor a number of steps, such as 1430")
    delete_after_use = is_true(given, "delete_after_use")
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    from pipelines.information.experiment import InformationOptions, run_information
    from pipelines.information.result import InformationSettings
    from pipelines.sweep.executors import choose_executor
    from pipelines.sweep.protocol import ProbeSettings

    reading = ProbeSettings(
        pooling=given.pooling,
        precision=given.precision,
        device=given.device,
        device_map=None if given.device_map == "none" else given.device_map,
    )
    options = InformationOptions(
        model=given.model,
        checkpoints=given.checkpoints,
        dimensions=dimensions,
        data=given.data,
        limit=given.limit,
        warmup_steps=None if warmup == "auto" else int(warmup),
        delete_after_use=delete_after_use,
        settings=InformationSettings(reading, given.estimator, given.landmarks, given.seed),
        executor=choose_executor(given.executor, given.address),
    )
    run_information(options, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("information", __doc__)
    add_series(parser, "tiny", "log:24", "; init is added")
    add_statements(parser)
    add = parser.add_argument
    add("--estimator", default="sound", help="sound, or paper: nHSIC as arXiv 2402.19465 released it [%(default)s]")
    add("--pooling", default="last", help="last or mean: which tokens' activations [%(default)s]")
    add("--seed", type=int, default=0, help="of folds, landmarks, permutations and halves [%(default)s]")
    add("--landmarks", type=int, default=384, help="statements kernels go through, 0 for all (exact) [%(default)s]")
    add("--warmup-steps", default="auto", help="of the learning rate; auto knows those of pretrain [%(default)s]")
    add_device(parser)
    add_scale(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
