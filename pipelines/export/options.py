"""Export options: what a user may choose; see ``python -m pipelines.export --help``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.cli.options import CheckpointOptions
from pipelines.cli.parameters import Options, group, parameter
from registry.errors import InvalidInput
from serving.model.placement import Placement

RECOMMENDED = "recommended"


@dataclass(frozen=True)
class ExportOptions(Options):
    """A pack of one model's vectors."""

    checkpoint: CheckpointOptions = group(CheckpointOptions())
    to: str | None = parameter(None, "the folder to write; none is packs/<model>")
    vectors: tuple[str, ...] = parameter((), "registered vectors in place of champions, such as steer.tiny.toxicity/3")
    baked: bool = parameter(False, "true writes a checkpoint with the offsets as biases too, to the folder <to>-baked")
    strengths: str = parameter(RECOMMENDED, "what is baked in: recommended, or such as toxicity=2,privacy=1")
    placement: Placement = group(Placement(), only=("precision", "device"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strengths != RECOMMENDED and not self.baked:
            raise InvalidInput(f"strengths {self.strengths!r} are what is baked in and baked is false; give baked=true")
        parse_strengths(self.strengths)


def parse_strengths(text: str) -> Mapping[str, float]:
    """``toxicity=2,privacy=1`` as numbers by dimension; none for ``recommended``. Raises ``InvalidInput``."""
    strengths: dict[str, float] = {}
    for part in filter(None, text.split(",")) if text != RECOMMENDED else ():
        dimension, equals, number = (piece.strip() for piece in part.partition("="))
        if dimension in strengths:
            raise InvalidInput(f"strengths {text!r} names {dimension} twice; give each dimension one strength")
        try:
            strengths[dimension] = float(number)
        except ValueError:
            equals = ""
        if not (equals and math.isfinite(strengths[dimension])):
            raise InvalidInput(f"strengths {text!r} has the part {part!r}; give such as toxicity=2,privacy=1")
    if not strengths and text != RECOMMENDED:
        raise InvalidInput(f"strengths {text!r} names none; give {RECOMMENDED}, or such as toxicity=2,privacy=1")
    return strengths
