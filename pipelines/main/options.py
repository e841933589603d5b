"""Workflow options: what a user may choose; see ``python -m pipelines.main --help``."""

from dataclasses import dataclass

from pipelines.cli.options import LOOK, Look, SeriesOptions
from pipelines.cli.parameters import Options, group, parameter
from pipelines.report.options import file_to_write
from pipelines.statements.options import StatementsOptions
from pipelines.sweep.protocol import FittingProtocol
from serving.model.placement import Placement


@dataclass(frozen=True)
class MainOptions(Options):
    """The chain of stages; a stage is given those of these parameters that it has."""

    series: SeriesOptions = group(SeriesOptions("tiny", "log:12"))
    stages: str = parameter("all", "all, or names separated by commas, in their order")
    statements: StatementsOptions = group(StatementsOptions)
    protocol: FittingProtocol = group(FittingProtocol(), only=("seeds",))
    trace: str | None = parameter(None, "as for evaluate")
    placement: Placement = group(Placement(), only=("precision", "device"))
    figures: Look = parameter("screen", LOOK)
    output: str | None = parameter(None, "a file for the report, beside what is logged")

    def __post_init__(self) -> None:
        super().__post_init__()
        file_to_write(self.output)
