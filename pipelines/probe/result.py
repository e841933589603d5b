"""Probe results: scores and directions of one checkpoint on one dimension, and their store."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from pipelines.estimators.estimate import Estimate
from pipelines.estimators.mass_mean import MassMean
from pipelines.estimators.saturation import Saturation
from pipelines.sweep.store import UnitStore
from pipelines.sweep.unit import Unit
from registry.cache import cache_root
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput


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
    saturation: Saturation | None = None
    """``None`` in results of versions that did not measure it."""


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
class UnitResult(Unit):
    """What probing one checkpoint on one dimension found, at every layer read."""

    n_layers: int
    """Layers of the model, of which ``scores`` may cover a part."""
    protocol: str
    """The protocol that directions were fitted and probes tested under."""
    split: str
    """The statements that directions were fitted on, in words."""
    scores: tuple[ProbeScore, ...]
    """For every layer one per seed, then one over all seeds."""
    directions: tuple[LayerDirection, ...]
    probabilities: Float32[np.ndarray, "seeds layers n_test"]
    """Held-out P(trustworthy), in the order of the statements."""
    validation: Float32[np.ndarray, "seeds layers folds"]
    """Accuracy on the inner fold of each tested fold."""
    seconds: float
    """Reading and measuring took, without loading the checkpoint."""
    distances: Float32[np.ndarray, "seeds layers n_test"] | None = None
    """Of held-out statements to the planes of their probes; ``None`` in results of versions that did not keep them."""
    pooling: str = ""
    """Which tokens were read; empty in files of versions that did not keep it."""

    def seen_as(self, checkpoint: Checkpoint, dimension: str, pooling: str) -> "UnitResult":
        """The pooling is a part of what ``digest`` names, so that it is known of files that do not tell it."""
        return replace(super().seen_as(checkpoint, dimension, pooling), pooling=pooling)

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(score.layer for score in self.pooled)

    @property
    def pooled(self) -> tuple[ProbeScore, ...]:
        """One score per layer, over all seeds."""
        return tuple(score for score in self.scores if score.seed is None)

    def score(self, layer: int, seed: int | None = None) -> ProbeScore:
        return next(score for score in self.scores if score.layer == layer and score.seed == seed)

    def direction(self, layer: int) -> LayerDirection:
        """Raises ``InvalidInput`` for a layer at which the class means coincide."""
        for direction in self.directions:
            if direction.layer == layer:
                return direction
        raise InvalidInput(
            f"at layer {layer} of {self.checkpoint.caption} the class means of {self.dimension} coincide, so there is "
            "no direction; choose another layer or checkpoint"
        )

    @property
    def layers_without_direction(self) -> tuple[int, ...]:
        """Layers at which the class means coincide, as before training reaches them."""
        fitted = {direction.layer for direction in self.directions}
        return tuple(score.layer for score in self.pooled if score.layer not in fitted)

    def best_layer(self, candidates: tuple[int, ...]) -> int:
        """The candidate with the highest validation accuracy over all seeds; the shallower of equals."""
        return max(candidates, key=lambda layer: (self.score(layer).validation_accuracy, -layer))


class ResultStore(UnitStore[UnitResult]):
    """Finished units of probing sweeps."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(UnitResult, directory or cache_root() / "probe")
