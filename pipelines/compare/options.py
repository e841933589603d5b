"""Compare options: what a user may choose; see ``python -m pipelines.compare --help``."""

from dataclasses import dataclass

from pipelines.cli.options import LOOK, Look
from pipelines.cli.parameters import Options, parameter
from registry.errors import InvalidInput

FIVE_SEEDS = tuple(f"tiny:{seed}" for seed in range(5))


@dataclass(frozen=True)
class CompareOptions(Options):
    """The series whose probing runs are compared."""

    models: tuple[str, ...] = parameter(FIVE_SEEDS, "two or more, as they were given to probe, or ids of its runs")
    figures: Look = parameter("screen", LOOK)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.models) < 2:
            raise InvalidInput(
                f"`models` names {', '.join(self.models) or 'none'}, and two or more series are compared: "
                "-P models=tiny:0,tiny:1"
            )
