"""Report options: what a user may choose; see ``python -m pipelines.report --help``."""

from dataclasses import dataclass

from pipelines.cli.parameters import Options, parameter


@dataclass(frozen=True)
class ReportOptions(Options):
    """The page about a model."""

    model: str = parameter("smollm2", "as it was given to the other commands")
    output: str | None = parameter(None, "a file to write beside what is logged")
