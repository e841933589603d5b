"""A unit of work, one checkpoint and one dimension, and its result."""

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from pipelines.estimators.estimate import Estimate
from pipelines.estimators.mass_mean import MassMean
from registry.checkpoints import Checkpoint

SCHEMA_VERSION = 1
"""Raised when the meaning of a stored result changes, so that older ones are computed anew."""


class Unit(Protocol):
    """What was measured of one checkpoint on one dimension, by whatever experiment."""

    @property
    def digest(self) -> str:
        """Names it by all that decides it."""

    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def weights_digest(self) -> str: ...
    @property
    def dimension(self) -> str: ...
    @property
    def statements_digest(self) -> str: ...
    @property
    def statements_source(self) -> str: ...
    @property
    def precision(self) -> str: ...


@dataclass(frozen=True)
class ProbeScore:
    """How well one layer tells the classes apart on held-out statements, for one split or all of them together."""

    layer: int
    seed: int | None
    """The seed of the split; ``None`` for all splits together, each statement counting once."""
    accuracy: Estimate
    auroc: float
    bits: float
    """Held-out cross-entropy in bits; 1 is chance for balanced classes."""
    calibration_error: float
    shuffled: Estimate
    """Accuracy of probes fitted on shuffled labels."""
    validation_accuracy: float
    n_train: int


@dataclass(frozen=True)
class LayerDirection:
    """What can steer and score at one layer, fitted on the training rows of the first split."""

    layer: int
    n_train: int
    """Statements it was fitted on."""
    mass_mean: MassMean
    held_out_auroc: float
    """AUROC of the projections of the statements that the direction was not fitted on."""
    probe_weights: Float32[np.ndarray, " d_model"]
    probe_bias: float


@dataclass(frozen=True)
class UnitResult:
    """What probing one checkpoint on one dimension found, at every layer read."""

    digest: str
    checkpoint: Checkpoint
    weights_digest: str
    dimension: str
    statements_digest: str
    statements_source: str
    n_layers: int
    """Layers of the model, of which ``scores`` may cover a part."""
    precision: str
    scores: tuple[ProbeScore, ...]
    """For every layer one a seed, then one over all seeds."""
    directions: tuple[LayerDirection, ...]
    probabilities: Float32[np.ndarray, "seeds layers n_test"]
    """Held-out P(trustworthy), in the order of the statements."""
    seconds: float
    """Reading and measuring took, without loading the checkpoint."""

    @property
    def pooled(self) -> tuple[ProbeScore, ...]:
        """One score a layer, over all seeds."""
        return tuple(score for score in self.scores if score.seed is None)

    def score(self, layer: int, seed: int | None = None) -> ProbeScore:
        return next(score for score in self.scores if score.layer == layer and score.seed == seed)

    def direction(self, layer: int) -> LayerDirection:
        return next(direction for direction in self.directions if direction.layer == layer)

    def best_layer(self, candidates: tuple[int, ...]) -> int:
        """The candidate with the highest validation accuracy over all seeds; the shallower of equals."""
        return max(candidates, key=lambda layer: (self.score(layer).validation_accuracy, -layer))


def unit_digest(identity: str, statements_digest: str, settings: dict[str, str | int]) -> str:
    """Names a unit's result by all that decides it; ``identity`` stands for the checkpoint's weights."""
    content = {"schema": SCHEMA_VERSION, "checkpoint": identity, "statements": statements_digest, **settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
