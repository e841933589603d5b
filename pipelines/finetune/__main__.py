"""Fine-tune a model on trustworthy statements: the baseline that steering is compared with.

    python -m pipelines.finetune --model smollm2 --dimensions toxicity --method lora
    mlflow run . -e finetune --env-manager local -P model=tiny

The statements are those that probes and vectors are fitted on, so that what evaluate scores was learnt by neither.
The checkpoint's directory is printed: give it to evaluate as finetuned, or to any command as model.
"""

import sys
from collections.abc import Sequence

from pipelines.cli.command import run_command
from pipelines.cli.parameters import parse
from pipelines.finetune.options import FinetuneOptions
from serving.imports import importing


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(FinetuneOptions, "finetune", __doc__, arguments)
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    with importing():
        from pipelines.finetune.experiment import run_finetuning

    run_finetuning(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
