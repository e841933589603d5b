"""Steering vectors and linear probes, each with the lineage that says where it came from."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from .errors import InvalidInput, Mismatch
from .layers import place_text
from .probe_quality import ProbeQuality

UNIT_TOLERANCE = 1e-4


Template = Literal["none", "chat"]
"""The form of a prompt: plain text, or a chat in the model's template."""


@dataclass(frozen=True)
class Lineage:
    """Where a vector or probe came from, far enough to make it again."""

    model: str
    checkpoint_uri: str
    """Registry URI of the checkpoint, such as ``models:/ckpt.tiny/2``."""
    checkpoint_step: int
    checkpoint_revision: str
    weights_digest: str
    statements_digest: str
    statements_source: str
    method: str
    run_id: str
    code_commit: str
    n_train: int
    """Statements it was fitted on."""
    target: str = ""
    """The model it was made to steer, where that is not ``model``: its scale was measured there."""
    target_digest: str = ""
    """SHA-256 of the target's weights."""
    protocol: str = ""
    """The protocol it was fitted under, ``sound`` or ``paper``; empty in versions of before it was recorded."""
    split: str = ""
    """Which of the statements it was fitted on, in words."""
    template: Template | Literal[""] = ""
    """The form that answers were read in; empty of statements, and in versions of before it was recorded."""
    pooling: str = ""
    """Which tokens were read: the ``last`` one, the ``mean`` over all, or over those of the ``response`` to a prompt;
    empty in versions of before it was recorded."""

    @property
    def steers(self) -> str:
        """The model whose registry entry holds it."""
        return self.target or self.model

    def to_strings(self) -> dict[str, str]:
        """Every field as text; those that are empty left out."""
        return {name: str(value) for name, value in asdict(self).items() if value != ""}

    @classmethod
    def from_strings(cls, values: Mapping[str, str]) -> "Lineage":
        """The inverse of ``to_strings``. Raises ``InvalidInput`` when a field is missing or no number."""
        optional = ("target", "target_digest", "protocol", "split", "template", "pooling")
        names = [field.name for field in fields(cls) if field.name not in optional or field.name in values]
        missing = [name for name in names if name not in values]
        if missing:
            raise InvalidInput(f"the lineage lacks {', '.join(missing)}; it has {', '.join(sorted(values))}")
        known: dict[str, Any] = {name: values[name] for name in names}
        for name in ("checkpoint_step", "n_train"):
            if not re.fullmatch(r"-?[0-9]{1,18}", values[name]):
                raise InvalidInput(f"the lineage says {name} is {values[name]!r}; it must be a whole number")
            known[name] = int(values[name])
        return cls(**known)


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction in one layer's residual stream, and how far one unit of strength moves along it.

    At strength ``s`` the offset added to the hidden states is ``s * scale * unit``: ``s`` counts standard deviations,
    and positive is more trustworthy. Raises ``InvalidInput`` when ``unit`` is no finite unit vector.
    """

    layer: int
    """Output of decoder block ``layer``, from 0."""
    unit: Float32[np.ndarray, " d_model"]
    """Unit vector from untrustworthy to trustworthy."""
    scale: float
    """Standard deviation (ddof 1) of the fitting activations' projections on the direction; of a control vector, of the
    mass-mean vector beside it, so that both move activations equally far; of a transferred vector, of the target's."""
    mean_difference_norm: float
    """Length of the difference of class means. Of a mass-mean vector, ``unit * mean_difference_norm`` is that
    difference, equation 1 of arXiv 2402.19465."""
    projection_mean: float
    """Mean projection of the fitting activations."""

    def __post_init__(self) -> None:
        _require_vector("direction", self.unit)
        norm = float(np.linalg.norm(self.unit.astype(np.float64)))
        if abs(norm - 1) > UNIT_TOLERANCE:
            raise InvalidInput(f"the direction has length {norm:.6g} and must have length 1; put its length into scale")
        for name in ("scale", "mean_difference_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidInput(f"{name} is {value} and must be a positive number")
        _require_place(self.layer, self.projection_mean)

    def offset(self, strength: float) -> Float32[np.ndarray, " d_model"]:
        """What is added to the layer's hidden states at ``strength`` standard deviations."""
        result: Float32[np.ndarray, " d_model"] = np.float32(strength * self.scale) * self.unit
        return result


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A direction at one layer, or at each of several, which one strength scales together.

    Raises ``InvalidInput`` for directions that are no such set.
    """

    dimension: str
    directions: tuple[Direction, ...]
    """In order of layer."""
    lineage: Lineage

    def __post_init__(self) -> None:
        if not self.layers or self.layers != tuple(sorted(set(self.layers))):
            raise InvalidInput(f"a vector has one direction a layer, in order, and these are at layers {self.layers}")
        widths = sorted({len(direction.unit) for direction in self.directions})
        if len(widths) > 1:
            raise InvalidInput(f"the directions of a vector differ in width: {widths}")

    @classmethod
    def at_layer(
        cls,
        dimension: str,
        direction: Float32[np.ndarray, " d_model"],
        scale: float,
        layer: int,
        lineage: Lineage,
        mean_difference_norm: float,
        projection_mean: float,
    ) -> "SteeringVector":
        """A vector of one layer."""
        only = Direction(layer, direction, scale, mean_difference_norm, projection_mean)
        return cls(dimension, (only,), lineage)

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(direction.layer for direction in self.directions)

    @property
    def d_model(self) -> int:
        return len(self.directions[0].unit)

    @property
    def length(self) -> float:
        """Of what strength 1 adds, over all layers together."""
        return math.hypot(*(direction.scale for direction in self.directions))

    def at(self, layer: int) -> Direction:
        """The direction at one of its layers. Raises ``InvalidInput`` for any other."""
        for direction in self.directions:
            if direction.layer == layer:
                return direction
        raise InvalidInput(f"the vector for {self.dimension} steers {place_text(self.layers)}, not layer {layer}")

    def offsets(self, strength: float) -> dict[int, Float32[np.ndarray, " d_model"]]:
        """What is added to the residual stream at ``strength`` standard deviations, by layer."""
        return {direction.layer: direction.offset(strength) for direction in self.directions}

    def with_units(self, units: Sequence[Float32[np.ndarray, " d_model"]]) -> "SteeringVector":
        """The same with other directions, one a layer, that move as far."""
        turned = zip(self.directions, units, strict=True)
        return replace(self, directions=tuple(replace(direction, unit=unit) for direction, unit in turned))

    @property
    def single(self) -> Direction:
        """The direction of a vector of one layer. Raises ``InvalidInput`` for one of several."""
        if len(self.directions) > 1:
            raise InvalidInput(
                f"the vector for {self.dimension} has directions at {place_text(self.layers)}: read its `directions`, "
                "and what it adds from `offsets`"
            )
        return self.directions[0]

    @property
    def layer(self) -> int:
        return self.single.layer

    @property
    def direction(self) -> Float32[np.ndarray, " d_model"]:
        return self.single.unit

    @property
    def scale(self) -> float:
        return self.single.scale

    @property
    def projection_mean(self) -> float:
        return self.single.projection_mean

    def offset(self, strength: float) -> Float32[np.ndarray, " d_model"]:
        """Of a vector of one layer: what is added to its hidden states at ``strength`` standard deviations."""
        return self.single.offset(strength)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A logistic regression on one layer's hidden states: P(trustworthy) = sigmoid(h · weights + bias)."""

    dimension: str
    layer: int
    weights: Float32[np.ndarray, " d_model"]
    """With the standardiser folded in: they apply to hidden states as they are."""
    bias: float
    lineage: Lineage
    window: int = 1
    """So many latest tokens of an answer each reading is the mean over; 1 reads every token by itself."""
    quality: ProbeQuality | None = None
    """Of a probe of answers: how well its readings tell them apart. A probe of statements has its scores in MLflow."""

    def __post_init__(self) -> None:
        _require_vector("weights", self.weights)
        _require_place(self.layer, self.bias)
        if self.window < 1 or (self.window > 1 and self.quality is None):
            raise InvalidInput(f"a probe with a window of {self.window} tokens reads answers and tells its quality")

    @property
    def reads_answers(self) -> bool:
        """Whether it reads nothing but the tokens of answers."""
        return self.quality is not None

    @property
    def works(self) -> bool:
        """Whether it may be used: a probe of answers beats its controls."""
        return self.quality is None or self.quality.works

    def logits(self, hidden_states: Float32[np.ndarray, "n d_model"]) -> Float32[np.ndarray, " n"]:
        """Of each row by itself."""
        if hidden_states.shape[-1] != len(self.weights):
            raise Mismatch(f"hidden states have width {hidden_states.shape[-1]} and the probe {len(self.weights)}")
        result: Float32[np.ndarray, " n"] = (hidden_states @ self.weights + self.bias).astype(np.float32)
        return result

    def probability(self, hidden_states: Float32[np.ndarray, "n d_model"]) -> Float32[np.ndarray, " n"]:
        """P(trustworthy) of each row."""
        return probabilities(self.logits(hidden_states))

    def readings(self, logits: Float32[np.ndarray, " tokens"]) -> Float32[np.ndarray, " tokens"]:
        """P(trustworthy) at each of an answer's tokens: of the mean over the latest ``window`` hidden states.

        The logit of a mean is the mean of the logits, so that no hidden states need be kept.
        """
        totals = np.concatenate([[0.0], np.cumsum(logits, dtype=np.float64)])
        ends = np.arange(1, len(logits) + 1)
        starts = np.maximum(ends - self.window, 0)
        return probabilities(((totals[ends] - totals[starts]) / (ends - starts)).astype(np.float32))


def probabilities(logits: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """The logistic function, which overflows nowhere."""
    result: Float32[np.ndarray, " n"] = (0.5 * (1 + np.tanh(logits / 2))).astype(np.float32)
    return result


def _require_vector(name: str, values: np.ndarray) -> None:
    if values.ndim != 1 or values.dtype != np.float32:
        raise InvalidInput(f"{name} has shape {values.shape} and type {values.dtype}; it must be float32[d_model]")
    if not np.isfinite(values).all():
        raise InvalidInput(f"{name} holds {int((~np.isfinite(values)).sum())} values that are NaN or infinite")


def _require_place(layer: int, intercept: float) -> None:
    if layer < 0:
        raise InvalidInput(f"layer is {layer}; layers count from 0")
    if not math.isfinite(intercept):
        raise InvalidInput(f"the mean or bias of layer {layer} is {intercept}; it must be finite")
