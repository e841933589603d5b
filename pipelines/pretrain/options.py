"""Pre-training options: what a user may choose; see ``python -m pipelines.pretrain --help``."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipelines.cli.parameters import Options, group, parameter
from registry.errors import InvalidInput

RECIPE = 4
"""Raised when the code changes what weights a configuration makes, so that older series are made anew."""


@dataclass(frozen=True)
class TrainingConfig(Options):
    """Everything besides the corpus that decides the weights."""

    d_model: int = 192
    n_layers: int = 4
    vocabulary: int = 6144
    sequence_tokens: int = 64
    batch_sequences: int = 16
    steps: int = parameter(2000, "optimiser steps of 1,024 tokens")
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = parameter(0, "of initial weights, corpus and batches")

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InvalidInput(f"`steps` is {self.steps}; a series needs one step of training or more, such as 2000")

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """Even in the logarithm, two to a doubling: 0, 8, 12, 16, 24, 32, 48, 64, 96, 128, … and the last step."""
        doublings = range(max(2, self.steps).bit_length())
        spaced = {multiple << exponent for exponent in doublings for multiple in (2, 3)}
        return tuple(sorted({0, self.steps, *(step for step in spaced if 8 <= step < self.steps)}))


@dataclass(frozen=True)
class SeriesConfig(Options):
    """The checkpoint series to make."""

    training: TrainingConfig = group(TrainingConfig())
    corpus: str = parameter("packaged", "packaged, or .txt or .jsonl files")
    prose_characters: int = 2_000_000
    generated_rounds: int = 3_700

    @property
    def steps(self) -> int:
        return self.training.steps

    def with_seed(self, seed: int) -> "SeriesConfig":
        return replace(self, training=replace(self.training, seed=seed))

    @property
    def key(self) -> str:
        """Names the series; a user's own corpus enters by its files' contents."""
        content = {"recipe": RECIPE, **asdict(self)}
        if self.corpus != "packaged":
            content["corpus"] = _files_digest(Path(self.corpus).expanduser())
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _files_digest(path: Path) -> str:
    if not path.exists():
        raise InvalidInput(
            f"corpus {str(path)!r} does not exist; use packaged, or a .txt or .jsonl file or a directory"
        )
    content = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            content.update(file.name.encode() + file.read_bytes())
    return content.hexdigest()
