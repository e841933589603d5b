"""Steering vectors and linear probes, each with the lineage that says where it came from."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from .errors import InvalidInput, Mismatch

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
class SteeringVector:
    """A direction in one layer's residual stream, and how far one unit of strength moves along it.

    At strength ``s`` the offset added to the hidden states is ``s * scale * direction``: ``s`` counts standard
    deviations, and positive is more trustworthy. Raises ``InvalidInput`` when the direction is no finite unit vector.
    """

    dimension: str
    direction: Float32[np.ndarray, " d_model"]
    """Unit vector from untrustworthy to trustworthy."""
    scale: float
    """Standard deviation (ddof 1) of the fitting activations' projections on the direction; of a control vector, of the
    mass-mean vector beside it, so that both move activations equally far; of a transferred vector, of the target's."""
    layer: int
    """Output of decoder block ``layer``, from 0."""
    lineage: Lineage
    mean_difference_norm: float
    """Length of the difference of class means. Of a mass-mean vector, ``direction * mean_difference_norm`` is that
    difference, equation 1 of arXiv 2402.19465."""
    projection_mean: float
    """Mean projection of the fitting activations."""

    def __post_init__(self) -> None:
        _require_vector("direction", self.direction)
        norm = float(np.linalg.norm(self.direction.astype(np.float64)))
        if abs(norm - 1) > UNIT_TOLERANCE:
            raise InvalidInput(f"the direction has length {norm:.6g} and must have length 1; put its length into scale")
        for name in ("scale", "mean_difference_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidInput(f"{name} is {value} and must be a positive number")
        _require_place(self.dimension, self.layer, self.projection_mean)

    @property
    def d_model(self) -> int:
        return len(self.direction)

    def offset(self, strength: float) -> Float32[np.ndarray, " d_model"]:
        """What is added to the residual stream at ``strength`` standard deviations."""
        result: Float32[np.ndarray, " d_model"] = np.float32(strength * self.scale) * self.direction
        return result


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A logistic regression on one layer's hidden states: P(trustworthy) = sigmoid(h · weights + bias)."""

    dimension: str
    layer: int
    weights: Float32[np.ndarray, " d_model"]
    """With the standardiser folded in: they apply to hidden states as they are."""
    bias: float
    lineage: Lineage

    def __post_init__(self) -> None:
        _require_vector("weights", self.weights)
        _require_place(self.dimension, self.layer, self.bias)

    def probability(self, hidden_states: Float32[np.ndarray, "n d_model"]) -> Float32[np.ndarray, " n"]:
        """P(trustworthy) of each row."""
        if hidden_states.shape[-1] != len(self.weights):
            raise Mismatch(f"hidden states have width {hidden_states.shape[-1]} and the probe {len(self.weights)}")
        logits = hidden_states @ self.weights + self.bias
        result: Float32[np.ndarray, " n"] = (0.5 * (1 + np.tanh(logits / 2))).astype(np.float32)
        return result


def _require_vector(name: str, values: np.ndarray) -> None:
    if values.ndim != 1 or values.dtype != np.float32:
        raise InvalidInput(f"{name} has shape {values.shape} and type {values.dtype}; it must be float32[d_model]")
    if not np.isfinite(values).all():
        raise InvalidInput(f"{name} holds {int((~np.isfinite(values)).sum())} values that are NaN or infinite")


def _require_place(dimension: str, layer: int, intercept: float) -> None:
    if layer < 0:
        raise InvalidInput(f"layer is {layer}; layers count from 0")
    if not math.isfinite(intercept):
        raise InvalidInput(f"the {dimension} vector's or probe's mean or bias is {intercept}; it must be finite")
