"""Fitting protocol: how statements are split into those that are fitted on and those that are tested."""

from dataclasses import dataclass
from typing import Literal

from pipelines.cli.parameters import Options, parameter
from registry.errors import InvalidInput

N_FOLDS = 5


@dataclass(frozen=True)
class FittingProtocol(Options):
    """The protocol that probes are fitted and tested under."""

    protocol: Literal["sound", "paper"] = parameter("sound", "sound, or paper: arXiv 2402.19465 as released")
    seeds: int = parameter(3, "how many times the statements are split into folds")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise InvalidInput(f"seeds is {self.seeds}; at least 1 split is needed")

    @property
    def is_paper(self) -> bool:
        return self.protocol == "paper"

    @property
    def split_seeds(self) -> tuple[int, ...]:
        """One for each split; the paper's protocol has one."""
        return (0,) if self.is_paper else tuple(range(self.seeds))

    def identity(self) -> dict[str, str | int]:
        """What two sweeps must share for their splits to be the same."""
        return {"protocol": self.protocol, "seeds": len(self.split_seeds), "folds": N_FOLDS}
