"""Evaluate steering: each dimension's vector beside the model as it is, random directions, a prompt and fine-tuning.

    python -m pipelines.evaluate --model smollm2
    mlflow run . -e evaluate -P model=smollm2 -P vectors=steer.smollm2.toxicity/3 -P finetuned=./models/smollm2-toxicity

Every score is of statements and benchmarks that no vector was fitted or calibrated on. Vectors are taken from the
registry, at the strength that their calibration recommends; texts are continued by the engine that serves.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli.command import listed, run_command
from pipelines.cli.parameters import add_device, add_one_checkpoint, command_parser
from pipelines.statements.choice import choose_dimensions


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    from pipelines.evaluate.experiment import EvaluateOptions, run_evaluation
    from pipelines.evaluate.tasks.judge import Judge
    from pipelines.sweep.protocol import ProbeSettings

    options = EvaluateOptions(
        model=given.model,
        checkpoint=given.checkpoint,
        dimensions=dimensions,
        data=given.data,
        limit=given.limit,
        vectors=listed(given.vectors),
        finetuned=listed(given.finetuned),
        trace=given.trace,
        source=given.model if given.source == "none" else given.source,
        classifier=given.classifier,
        harness=listed(given.harness),
        pii=given.pii,
        judge=None if given.judge == "none" else Judge(given.judge, given.judge_model),
        random=given.random,
        items=given.items,
        prompts=given.prompts,
        seed=given.seed,
        settings=ProbeSettings(precision=given.precision, device=given.device),
    )
    run_evaluation(options, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("evaluate", __doc__)
    add_one_checkpoint(parser)
    add = parser.add_argument
    add("--dimensions", default="all", help="all, or names separated by commas [%(default)s]")
    add("--data", default="packaged", help="as for calibrate: the half it kept back is what is scored [%(default)s]")
    add("--limit", type=int, default=0, help="as for calibrate: at most so many statements, 0 for all [%(default)s]")
    add("--vectors", default="none", help="further vectors, such as steer.tiny.toxicity/3, by commas [%(default)s]")
    add("--finetuned", default="none", help="directories of fine-tuned models, by commas [%(default)s]")
    add("--trace", default="none", help="checkpoints whose own directions to try, such as log:12 [%(default)s]")
    add("--source", default="none", help="the series that trace is of, if not the model's own [%(default)s]")
    add("--classifier", default="packaged", help="of toxicity: packaged, a hub id or a directory [%(default)s]")
    add("--harness", default="none", help="tasks of lm-evaluation-harness, or YAML files, by commas [%(default)s]")
    add("--pii", default="packaged", help="who finds personal details: packaged or presidio [%(default)s]")
    add("--judge", default="none", help="an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1 [%(default)s]")
    add("--judge-model", default="default", help="the model that the endpoint is asked for [%(default)s]")
    add("--random", type=int, default=5, help="random directions beside each vector [%(default)s]")
    add("--items", type=int, default=60, help="items of each benchmark [%(default)s]")
    add("--prompts", type=int, default=30, help="texts of each kind to have continued [%(default)s]")
    add("--seed", type=int, default=0, help="of the random directions [%(default)s]")
    add_device(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
