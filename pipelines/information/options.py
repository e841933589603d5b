"""Information options: what a user may choose; see ``python -m pipelines.information --help``."""

from dataclasses import dataclass
from typing import Literal

from pipelines.cli.options import LOOK, Look, ScaleOptions, SeriesOptions
from pipelines.cli.parameters import Options, group, parameter
from pipelines.model_io.reading import Reading
from pipelines.statements.options import StatementsOptions
from registry.errors import InvalidInput
from serving.model.placement import Placement

LANDMARKS = 384


@dataclass(frozen=True)
class InformationSettings(Options):
    """How information is estimated."""

    estimator: Literal["sound", "paper"] = parameter("sound", "sound, or paper: nHSIC as arXiv 2402.19465 released it")
    seed: int = parameter(0, "of folds, landmarks, permutations and halves")
    landmarks: int = parameter(
        LANDMARKS, "statements that kernels are decomposed through, 0 for all (exact, cubic in time)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.landmarks < 0 or self.landmarks in (1, 2):
            raise InvalidInput(f"landmarks is {self.landmarks}; give 0 for all statements, or some hundreds")

    @property
    def is_paper(self) -> bool:
        return self.estimator == "paper"

    def identity(self) -> dict[str, str | int]:
        """What two sweeps must share for their estimates to be the same."""
        return {"estimator": self.estimator, "landmarks": self.landmarks, "seed": self.seed}


@dataclass(frozen=True)
class InformationOptions(Options):
    """The information experiment."""

    series: SeriesOptions = group(SeriesOptions("tiny", "log:24"))
    statements: StatementsOptions = group(StatementsOptions)
    settings: InformationSettings = group(InformationSettings())
    reading: Reading = group(Reading(), only=("pooling",))
    warmup_steps: int | None = parameter(None, "of the learning rate; auto knows those of pretrain", none="auto")
    calibrate: bool = parameter(True, "measure the last checkpoint again with known shares of flipped labels")
    placement: Placement = group(Placement())
    scale: ScaleOptions = group(ScaleOptions())
    figures: Look = parameter("screen", LOOK)
