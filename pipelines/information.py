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

from pipelines.cli import run_command
from pipelines.statements.declared import choose_dimensions
from registry.errors import InvalidInput


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    warmup = given.warmup_steps
    if warmup != "auto" and not warmup.isdigit():
        raise InvalidInput(f"warmup_steps {warmup!r} is neither 'auto' nor a number of steps, such as 1430")
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    from pipelines.measuring import InformationOptions, run_information
    from pipelines.sweep.information_unit import InformationSettings
    from pipelines.sweep.settings import ProbeSettings

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
        delete_after_use=given.delete_after_use == "true",
        settings=InformationSettings(reading, given.estimator, given.landmarks, given.seed),
    )
    run_information(options, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipelines.information", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--model",
        default="tiny",
        help="tiny, smollm2, a hub id, a directory (of checkpoints), a GGUF file [%(default)s]",
    )
    add(
        "--checkpoints",
        default="log:24",
        help="all, steps such as 0,512, log:N, first, last; init is added [%(default)s]",
    )
    add("--dimensions", default="all", help="all, or names separated by commas [%(default)s]")
    add("--data", default="packaged", help="packaged, hub, a directory, a file, or dimension=source,… [%(default)s]")
    add("--estimator", default="sound", help="sound, or paper: nHSIC as arXiv 2402.19465 released it [%(default)s]")
    add("--pooling", default="last", help="last or mean: which tokens' activations [%(default)s]")
    add("--seed", type=int, default=0, help="of folds, landmarks, permutations and halves [%(default)s]")
    add("--limit", type=int, default=0, help="at most so many statements a dimension, 0 for all [%(default)s]")
    add("--landmarks", type=int, default=384, help="statements kernels go through, 0 for all (exact) [%(default)s]")
    add("--warmup-steps", default="auto", help="of the learning rate; auto knows those of pretrain [%(default)s]")
    add("--precision", default="auto", help="auto, float32 or bfloat16 [%(default)s]")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, … [%(default)s]")
    add("--device-map", default="none", help="Hugging Face device_map for a model larger than a device [%(default)s]")
    add("--delete-after-use", default="false", help="true deletes each downloaded checkpoint when done [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
