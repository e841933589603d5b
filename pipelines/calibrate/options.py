"""Calibration options: what a user may choose; see ``python -m pipelines.calibrate --help``."""

from dataclasses import dataclass
from typing import Literal

from pipelines.behaviours.names import require_behaviour
from pipelines.cli.options import LOOK, CheckpointOptions, Look
from pipelines.cli.parameters import Options, group, parameter
from pipelines.statements.options import StatementsOptions
from pipelines.sweep.protocol import FittingProtocol
from registry.errors import InvalidInput
from serving.model.placement import Placement

By = Literal["auto", "statements", "text"]


@dataclass(frozen=True)
class CalibrateOptions(Options):
    """The calibration experiment."""

    checkpoint: CheckpointOptions = group(CheckpointOptions())
    statements: StatementsOptions = group(StatementsOptions)
    layers: str = parameter("auto", "layers to try, a range such as 10-14 as one vector; auto spreads five")
    methods: str = parameter("mass-mean", "fitting methods to compare: all, none, or as for vectors")
    vectors: tuple[str, ...] = parameter((), "registered vectors to compare, such as steer.tiny.toxicity/3")
    by: By = parameter(
        "auto", "what decides: statements (their likelihood), text written, or auto, as for the champion"
    )
    protocol: FittingProtocol = group(FittingProtocol(), only=("seeds",))
    placement: Placement = group(Placement(), only=("precision", "device"))
    figures: Look = parameter("screen", LOOK)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.methods == "none" and not self.vectors:
            raise InvalidInput(
                "`methods` and `vectors` are none and leave nothing to calibrate; give methods=mass-mean, or vectors"
            )
        for dimension in self.statements.chosen if self.by == "text" else ():
            require_behaviour(dimension.name)
