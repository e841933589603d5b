"""Probe options: what a user may choose; see ``python -m pipelines.probe --help``."""

from dataclasses import dataclass
from typing import Literal

from pipelines.cli.options import ScaleOptions, SeriesOptions
from pipelines.cli.parameters import Options, group, parameter
from pipelines.model_io.reading import Reading
from pipelines.statements.options import StatementsOptions
from pipelines.sweep.protocol import FittingProtocol
from serving.model.placement import Placement


@dataclass(frozen=True)
class ProbeOptions(Options):
    """The probing experiment."""

    series: SeriesOptions = group(SeriesOptions("tiny", "log:12"))
    statements: StatementsOptions = group(StatementsOptions)
    reading: Reading = group(Reading())
    protocol: FittingProtocol = group(FittingProtocol())
    register: Literal["best", "all", "none"] = parameter(
        "best", "best (deep layer), all (layers) or none: vectors to register"
    )
    placement: Placement = group(Placement())
    scale: ScaleOptions = group(ScaleOptions())
    keep_activations: bool = parameter(False, "true keeps activations, a file per unit, in the cache")
