"""Probe options: what a user may choose; see ``python -m pipelines.probe --help``."""

from dataclasses import dataclass
from typing import Literal

from pipelines.cli.options import LOOK, Look, ScaleOptions, SeriesOptions
from pipelines.cli.parameters import Options, group, parameter
from pipelines.model_io.reading import Reading
from pipelines.statements.options import StatementsOptions
from pipelines.sweep.protocol import FittingProtocol
from registry.errors import InvalidInput, unknown_name
from serving.model.placement import Placement

READABLE, USED, STEERABLE = ONSETS = ("readable", "used", "steerable")


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
    onsets: tuple[str, ...] = parameter(
        (READABLE,), "readable, used, steerable: first steps to look for; the latter two cost forward passes"
    )
    ladder: str = parameter(
        "auto", "auto, packaged, none, or data: another source of the dimensions, which chosen probes are read on"
    )
    placement: Placement = group(Placement())
    scale: ScaleOptions = group(ScaleOptions())
    keep_activations: bool = parameter(False, "true keeps activations, a file per unit, in the cache")
    figures: Look = parameter("screen", LOOK)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.onsets:
            if name not in ONSETS:
                raise unknown_name("onset", name, ONSETS)
        if self.protocol.is_paper and self.needs_preferences:
            raise InvalidInput(
                f"`onsets` is {','.join(self.onsets)}, but protocol=paper chooses layers on the rows it tests: give "
                "protocol=sound, or onsets=none"
            )

    @property
    def reads_further(self) -> bool:
        """Whether the ladder reads checkpoints again; under protocol=paper a layer is chosen on what it would test."""
        return self.ladder != "none" and not self.protocol.is_paper

    @property
    def further(self) -> str:
        """The other source of a ladder's last rung."""
        return self.ladder if self.reads_further else "none"

    @property
    def needs_preferences(self) -> bool:
        return bool({USED, STEERABLE} & set(self.onsets))
