"""Reading: at which layers, and of which tokens, a statement's activations are read."""

from dataclasses import dataclass
from typing import Literal

from pipelines.cli.parameters import Options, parameter
from registry.counts import counted
from registry.errors import InvalidInput, Mismatch

ALL = "all"
Pooling = Literal["last", "mean", "response"]
"""The last token, the mean over all tokens, or that over the tokens of an answer after its prompt."""


@dataclass(frozen=True)
class Reading(Options):
    """How activations are read."""

    layers: str = parameter(ALL, "all, or numbers separated by commas")
    pooling: Pooling = parameter("last", "last, mean or response (after the prompt): which tokens' activations")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers != ALL and not all(part.strip().isdecimal() for part in self.layers.split(",")):
            raise InvalidInput(
                f"layers {self.layers!r} is neither 'all' nor numbers separated by commas, such as 0,6,12"
            )

    def chosen_layers(self, n_layers: int, model: str) -> tuple[int, ...]:
        """The layers to read, of the ``n_layers`` that the model has."""
        if self.layers == ALL:
            return tuple(range(n_layers))
        chosen = tuple(sorted({int(part) for part in self.layers.split(",")}))
        beyond = [layer for layer in chosen if layer >= n_layers]
        if beyond:
            raise Mismatch(
                f"layer {beyond[0]} does not exist: {model} has {counted(n_layers, 'layer')}, 0 to "
                f"{n_layers - 1}; give others"
            )
        return chosen

    def identity(self) -> dict[str, str]:
        """What two readings must share for their activations to be the same."""
        return {"layers": self.layers, "pooling": self.pooling}


def deep_layers(layers: tuple[int, ...], n_layers: int) -> tuple[int, ...]:
    """The layers that a steering vector may come from: the deeper half, or the deepest read when none of it was.

    Shallow layers still hold the words themselves, so a probe there says little about what the model made of them.
    """
    return tuple(layer for layer in layers if layer >= n_layers // 2) or layers[-1:]
