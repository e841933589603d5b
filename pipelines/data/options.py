"""Data options: what a user may choose; see ``python -m pipelines.data --help``."""

from dataclasses import dataclass

from pipelines.cli.parameters import Options, group, parameter
from pipelines.statements.options import StatementsOptions


@dataclass(frozen=True)
class DataOptions(Options):
    """The inspection of statements."""

    statements: StatementsOptions = group(StatementsOptions)
    seed: int = parameter(0, "of drawn statements, folds and intervals")
