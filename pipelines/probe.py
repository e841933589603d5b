"""Find where and when trustworthiness becomes readable, and register the steering vectors found there.

    python -m pipelines.probe --model tiny
    mlflow run . -e probe -P model=EleutherAI/pythia-70m -P checkpoints=log:8 -P dimensions=toxicity,fairness

Every dimension's statements are read once at every layer of every selected checkpoint; probes are fitted with their
controls; a mass-mean vector is registered for each dimension and checkpoint.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli import run_command
from pipelines.statements.declared import choose_dimensions
from registry.errors import unknown_name

REGISTER = ("best", "all", "none")


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    dimensions = choose_dimensions(given.dimensions, given.data)
    if given.register not in REGISTER:
        raise unknown_name("choice of vectors to register", given.register, REGISTER)
    for name in ("delete_after_use", "keep_activations"):
        if getattr(given, name) not in ("true", "false"):
            raise unknown_name(f"value of {name}", getattr(given, name), ("true", "false"))
    # Heavy imports come after the arguments are known to be good, so that --help and typos answer at once.
    from pipelines.probing import ProbeOptions, run_probing
    from pipelines.sweep.executors import choose_executor
    from pipelines.sweep.settings import ProbeSettings

    settings = ProbeSettings(
        protocol=given.protocol,
        pooling=given.pooling,
        layers=given.layers,
        seeds=given.seeds,
        precision=given.precision,
        device=given.device,
        device_map=None if given.device_map == "none" else given.device_map,
        keep_activations=given.keep_activations == "true",
    )
    options = ProbeOptions(
        model=given.model,
        checkpoints=given.checkpoints,
        dimensions=dimensions,
        data=given.data,
        limit=given.limit,
        register=given.register,
        delete_after_use=given.delete_after_use == "true",
        settings=settings,
        executor=choose_executor(given.executor, given.address),
    )
    run_probing(options, vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipelines.probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--model",
        default="tiny",
        help="tiny, smollm2, a hub id, a directory (of checkpoints), a GGUF file [%(default)s]",
    )
    add(
        "--checkpoints",
        default="log:12",
        help="all, steps such as 0,512, log:N, first, last; init may be added [%(default)s]",
    )
    add("--dimensions", default="all", help="all, or names separated by commas [%(default)s]")
    add("--data", default="packaged", help="packaged, hub, a directory, a file, or dimension=source,… [%(default)s]")
    add("--layers", default="all", help="all, or numbers separated by commas [%(default)s]")
    add("--pooling", default="last", help="last or mean: which tokens' activations [%(default)s]")
    add("--protocol", default="sound", help="sound, or paper: arXiv 2402.19465 as released [%(default)s]")
    add("--seeds", type=int, default=3, help="how many times the statements are split into folds [%(default)s]")
    add("--limit", type=int, default=0, help="at most so many statements a dimension, 0 for all [%(default)s]")
    add("--register", default="best", help="best (deep layer), all (layers) or none: vectors to register [%(default)s]")
    add("--precision", default="auto", help="auto, float32 or bfloat16 [%(default)s]")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, … [%(default)s]")
    add("--device-map", default="none", help="Hugging Face device_map for a model larger than a device [%(default)s]")
    add("--delete-after-use", default="false", help="true deletes each downloaded checkpoint when done [%(default)s]")
    add("--keep-activations", default="false", help="true keeps activations, a file a unit, in the cache [%(default)s]")
    add("--executor", default="local", help="local, or ray: units on a Ray cluster [%(default)s]")
    add("--address", default="local", help="of the Ray cluster: local, auto or host:port [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
