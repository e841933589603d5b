"""What a probing sweep measures, as one frozen value."""

from dataclasses import dataclass
from typing import Literal, get_args

from pipelines.model_io.activations import Pooling
from registry.errors import InvalidInput, Mismatch
from serving.model.placement import Precision

Protocol = Literal["sound", "paper"]

N_FOLDS = 5


@dataclass(frozen=True)
class ProbeSettings:
    """Everything besides checkpoint and statements that decides a unit's numbers."""

    protocol: Protocol = "sound"
    pooling: Pooling = "last"
    layers: str = "all"
    """``all``, or layer numbers separated by commas."""
    seeds: int = 3
    """How many times the statements are split into folds; the paper's protocol has one split."""
    precision: Precision = "auto"
    device: str = "auto"
    device_map: str | None = None
    keep_activations: bool = False
    """Whether the file of a unit's activations outlives its measurement."""

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("protocol", self.protocol, get_args(Protocol)),
            ("pooling", self.pooling, get_args(Pooling)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in choices:
                raise InvalidInput(f"{name} {value!r} is not one of {', '.join(choices)}")
        if self.seeds < 1:
            raise InvalidInput(f"seeds is {self.seeds}; at least 1 split is needed")
        if self.layers != "all" and not all(part.strip().isdigit() for part in self.layers.split(",")):
            raise InvalidInput(
                f"layers {self.layers!r} is neither 'all' nor numbers separated by commas, such as 0,6,12"
            )

    @property
    def split_seeds(self) -> tuple[int, ...]:
        return (0,) if self.protocol == "paper" else tuple(range(self.seeds))

    def chosen_layers(self, n_layers: int, model: str) -> tuple[int, ...]:
        """The layers to read, of the ``n_layers`` that the model has."""
        if self.layers == "all":
            return tuple(range(n_layers))
        chosen = tuple(sorted({int(part) for part in self.layers.split(",")}))
        beyond = [layer for layer in chosen if layer >= n_layers]
        if beyond:
            raise Mismatch(f"layer {beyond[0]} does not exist: {model} has {n_layers} layers, 0 to {n_layers - 1}")
        return chosen

    def deep_layers(self, layers: tuple[int, ...], n_layers: int) -> tuple[int, ...]:
        """The layers a steering vector may come from: the deeper half, or the deepest read when none of it was.

        Shallow layers still hold the words themselves, so a probe there tells little of what the model made of them.
        """
        return tuple(layer for layer in layers if layer >= n_layers // 2) or layers[-1:]

    def identity(self) -> dict[str, str | int]:
        """What two sweeps must share for their numbers to be the same; device and files kept are no part of it."""
        return {
            "protocol": self.protocol,
            "pooling": self.pooling,
            "layers": self.layers,
            "seeds": len(self.split_seeds),
            "precision": self.precision,
            "folds": N_FOLDS,
        }
