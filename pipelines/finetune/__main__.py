"""Fine-tune a model on trustworthy statements: the baseline that steering is compared with.

    python -m pipelines.finetune --model smollm2 --dimensions toxicity --method lora
    mlflow run . -e finetune -P model=tiny

The statements are those that probes and vectors are fitted on, so that what evaluate scores was learnt by neither.
The checkpoint's directory is printed: give it to evaluate as finetuned, or to any command as model.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import add_one_checkpoint, add_statements, command_parser
from pipelines.statements.choice import choose_dimensions
from registry.errors import InvalidInput


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    from pipelines.finetune.experiment import FinetuneOptions, run_finetuning
    from pipelines.finetune.training import LEARNING_RATES, FinetuneConfig

    rate = LEARNING_RATES.get(given.method, 0.1) if given.learning_rate == "auto" else _number(given.learning_rate)
    options = FinetuneOptions(
        model=given.model,
        checkpoint=given.checkpoint,
        dimensions=dimensions,
        data=given.data,
        limit=given.limit,
        device=given.device,
        config=FinetuneConfig(
            method=given.method, epochs=given.epochs, learning_rate=rate, rank=given.rank, seed=given.seed
        ),
    )
    run_finetuning(options, vars(given))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInput(f"learning_rate {text!r} is neither auto nor a number, such as 1e-4") from error


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("finetune", __doc__)
    add_one_checkpoint(parser)
    add_statements(parser)
    add = parser.add_argument
    add("--method", default="full", help="full, or lora: low-rank adapters, merged when done [%(default)s]")
    add("--epochs", type=int, default=3, help="how often every statement is read [%(default)s]")
    add("--learning-rate", default="auto", help="auto (full 1e-4, lora 1e-3), or a number [%(default)s]")
    add("--rank", type=int, default=8, help="of the adapters [%(default)s]")
    add("--seed", type=int, default=0, help="of the order of statements and the adapters' start [%(default)s]")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, … [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
