"""Fine-tuning options: what a user may choose; see ``python -m pipelines.finetune --help``."""

from dataclasses import asdict, dataclass
from typing import Literal

from pipelines.cli.options import LOOK, CheckpointOptions, Look
from pipelines.cli.parameters import Options, group, parameter
from pipelines.statements.options import StatementsOptions
from registry.dimensions import DIMENSIONS
from registry.errors import InvalidInput
from serving.model.placement import Placement

Method = Literal["full", "lora"]
LEARNING_RATES: dict[Method, float] = {"full": 1e-4, "lora": 1e-3}


@dataclass(frozen=True)
class FinetuneConfig(Options):
    """Everything besides checkpoint and texts that decides the weights."""

    method: Method = parameter("full", "full, or lora: low-rank adapters, merged when done")
    epochs: int = parameter(3, "how often every statement is read")
    batch_texts: int = 16
    learning_rate: float | None = parameter(None, "auto (full 1e-4, lora 1e-3), or a number", none="auto")
    rank: int = parameter(8, "of the adapters")
    alpha: float = 16.0
    """The adapters' product is multiplied by ``alpha / rank``."""
    clip_norm: float = 1.0
    seed: int = parameter(0, "of the order of statements and the adapters' start")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_texts", "rank"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)} and must be at least 1")
        if not 0 < self.rate < 1:
            raise InvalidInput(f"learning_rate is {self.rate} and must lie between 0 and 1, such as 1e-4")

    @property
    def rate(self) -> float:
        """The learning rate at the first step."""
        return LEARNING_RATES[self.method] if self.learning_rate is None else self.learning_rate

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "learning_rate": self.rate}


@dataclass(frozen=True)
class FinetuneOptions(Options):
    """The fine-tuning experiment."""

    checkpoint: CheckpointOptions = group(CheckpointOptions())
    statements: StatementsOptions = group(StatementsOptions)
    config: FinetuneConfig = group(FinetuneConfig())
    placement: Placement = group(Placement("float32"), only=("device",))
    figures: Look = parameter("screen", LOOK)

    def name_for(self, model: str) -> str:
        """Such as ``smollm2-toxicity-lora``; ``trust`` stands for all five dimensions."""
        names = [dimension.name for dimension in self.statements.chosen]
        return f"{model}-{'trust' if set(names) == set(DIMENSIONS) else '-'.join(names)}-{self.config.method}"
