"""Options that several commands share: the model, its checkpoints, and the scale of a sweep."""

from dataclasses import dataclass
from typing import Literal

from pipelines.cli.parameters import Options, parameter
from registry.errors import InvalidInput

MODEL = (
    "tiny (tiny:1: seed 1), smollm2, a hub id, a directory (of checkpoints), a GGUF file, @line.toml; name=… names it"
)


Look = Literal["screen", "paper"]
LOOK = "screen, or paper: without titles in a column's size too, as PDF and SVG under figures/paper"


@dataclass(frozen=True)
class SeriesOptions(Options):
    """The checkpoints of a model that an experiment measures."""

    model: str = parameter("tiny", MODEL)
    checkpoints: str = parameter("log:12", "all, steps such as 0,512, log:N, first, last, stage2:last, main")


@dataclass(frozen=True)
class CheckpointOptions(Options):
    """The one checkpoint that an experiment works on."""

    model: str = parameter("smollm2", MODEL)
    checkpoint: str = parameter("last", "a step, a revision, first, last, stage2:last or main")


@dataclass(frozen=True)
class ScaleOptions(Options):
    """Where a sweep's units are measured, and what becomes of downloaded checkpoints."""

    delete_after_use: bool = parameter(False, "true deletes each downloaded checkpoint when done")
    executor: Literal["local", "ray"] = parameter("local", "local, or ray: units on a Ray cluster")
    address: str = parameter("local", "of the Ray cluster: local, auto or host:port")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.executor == "local" and self.address not in ("", "local"):
            raise InvalidInput(
                f"address {self.address!r} is that of a Ray cluster and executor is local; give executor=ray"
            )
