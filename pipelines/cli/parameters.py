"""Options that several commands have, each worded once."""

import argparse

from registry.errors import unknown_name

MODEL = "tiny, smollm2, a hub id, a directory (of checkpoints), a GGUF file [%(default)s]"


def command_parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m pipelines.<command>``, whose module's text is its description."""
    return argparse.ArgumentParser(
        prog=f"pipelines.{command}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_series(parser: argparse.ArgumentParser, model: str, checkpoints: str, note: str = "") -> None:
    parser.add_argument("--model", default=model, help=MODEL)
    which = f"all, steps such as 0,512, log:N, first, last{note} [%(default)s]"
    parser.add_argument("--checkpoints", default=checkpoints, help=which)


def add_one_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="smollm2", help=MODEL)
    parser.add_argument("--checkpoint", default="last", help="a step, a revision, first or last [%(default)s]")


def add_statements(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--dimensions", default="all", help="all, or names separated by commas [%(default)s]")
    add("--data", default="packaged", help="packaged, hub, a directory, a file, or dimension=source,… [%(default)s]")
    add("--limit", type=int, default=0, help="at most so many statements a dimension, 0 for all [%(default)s]")


def add_probe_seeds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3, help="as in probe, whose results are used again [%(default)s]")


def add_device(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--precision", default="auto", help="auto, float32 or bfloat16 [%(default)s]")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, … [%(default)s]")


def add_scale(parser: argparse.ArgumentParser) -> None:
    """What a sweep over large checkpoints needs."""
    add = parser.add_argument
    add("--device-map", default="none", help="Hugging Face device_map for a model larger than a device [%(default)s]")
    add("--delete-after-use", default="false", help="true deletes each downloaded checkpoint when done [%(default)s]")
    add("--executor", default="local", help="local, or ray: units on a Ray cluster [%(default)s]")
    add("--address", default="local", help="of the Ray cluster: local, auto or host:port [%(default)s]")


def is_true(given: argparse.Namespace, name: str) -> bool:
    """Raises ``UnknownName`` for what is neither ``true`` nor ``false``: MLflow passes all parameters as text."""
    value = getattr(given, name)
    if value not in ("true", "false"):
        raise unknown_name(f"value of {name}", value, ("true", "false"))
    return bool(value == "true")
