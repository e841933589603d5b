"""Everything in order: probe a series, look at its information, make vectors, calibrate and evaluate them, report.

    mlflow run . -P model=tiny
    python -m pipelines.main --model smollm2 --stages calibrate,evaluate,report

Each stage is a run of its own below this one, and is skipped when a finished run had the same inputs: arguments,
weights, statements, code, champions, and the stages before it. What failed or was interrupted is done again.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli import run_command
from pipelines.statements.declared import choose_dimensions


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    from pipelines.chaining import chosen_stages, run_chain

    run_chain(chosen_stages(given.stages, given.model), dimensions, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipelines.main", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="tiny", help="tiny, smollm2, a hub id, a directory, a GGUF file [%(default)s]")
    add("--stages", default="all", help="all, or names separated by commas, in their order [%(default)s]")
    add("--checkpoints", default="log:12", help="as for probe [%(default)s]")
    add("--dimensions", default="all", help="all, or names separated by commas [%(default)s]")
    add("--data", default="packaged", help="packaged, hub, a directory, a file, or dimension=source,… [%(default)s]")
    add("--limit", type=int, default=0, help="at most so many statements a dimension, 0 for all [%(default)s]")
    add("--seeds", type=int, default=3, help="how many times the statements are split into folds [%(default)s]")
    add("--trace", default="none", help="as for evaluate [%(default)s]")
    add("--precision", default="auto", help="auto, float32 or bfloat16 [%(default)s]")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, … [%(default)s]")
    add("--output", default="none", help="a file for the report, beside what is logged [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
