"""A unit of the information experiment, one checkpoint and one dimension: its result."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float16, Float32

from pipelines.estimators.estimate import Estimate
from pipelines.estimators.spectrum import Spectrum
from pipelines.sweep.unit import Unit

SCHEMA_VERSION = 3
"""Raised when the meaning of a stored result changes, so that older ones are computed anew."""
OWN, FIXED, PAPER = "sound", "sound-fixed", "paper"
"""What ``estimator`` may be in a table: X of the same checkpoint, X of the last one, and the paper's code."""


@dataclass(frozen=True)
class Dependence:
    """How much two variables have in common at one layer; nHSIC is dimensionless."""

    nhsic: float
    null_mean: float
    """What nHSIC is on average for permuted statements."""
    null: float
    """Its 95 % quantile for permuted statements."""
    hsic: float = float("nan")
    """Bias-corrected HSIC; not a number under the paper's protocol, as all below."""
    cka: float = float("nan")
    """Debiased CKA."""
    halves: tuple[float, ...] = ()
    """nHSIC on random halves of the groups."""

    @property
    def standard_error(self) -> float:
        return float(np.std(self.halves)) if self.halves else float("nan")


@dataclass(frozen=True)
class SweptBandwidth:
    """nHSIC at one multiple of the median bandwidth, X of the same checkpoint."""

    scale: float
    bandwidth: float
    xt: float
    ty: float
    tt: float


@dataclass(frozen=True)
class LayerInformation:
    """What one layer's activations T tell of X and of Y."""

    layer: int
    xt: Mapping[str, Dependence]
    """By estimator: ``sound`` and ``sound-fixed``, or ``paper``."""
    ty: Dependence
    tt: float
    """nHSIC of T with itself, an effective dimension."""
    captured: float
    """Share of the kernel's trace that the landmarks capture."""
    bits: Estimate
    """Usable information in bits, held-out."""
    conditional_bits: Estimate
    """What of it an n-gram model of the text does not have."""
    neighbour_bits: float
    """Mutual information of the label and the probe's held-out logit, by nearest neighbours."""
    spectrum: Spectrum
    swept: tuple[SweptBandwidth, ...] = ()


@dataclass(frozen=True)
class Transferable:
    """What is kept of one layer, to compare checkpoints with each other."""

    layer: int
    states: Float16[np.ndarray, "n d_model"]
    """Activations, each row divided by the largest absolute value of all."""
    weights: Float32[np.ndarray, "folds d_model"]
    """Probes on ``states``, the k-th fitted without fold k."""
    biases: Float32[np.ndarray, " folds"]
    direction: Float32[np.ndarray, " d_model"]
    """The mass-mean direction of all statements."""


@dataclass(frozen=True)
class InformationResult(Unit):
    """What the information experiment found at one checkpoint for one dimension."""

    n: int
    """Statements that nHSIC was computed on: all, or the paper's first 80 %."""
    seed: int
    points: tuple[LayerInformation, ...]
    transferable: Transferable
    seconds: float

    def without_states(self) -> "InformationResult":
        """All but the activations, which the store keeps: a sweep holds many results, and one set of activations."""
        states = np.empty((0, self.transferable.states.shape[1]), np.float16)
        return replace(self, transferable=replace(self.transferable, states=states))

    def point(self, layer: int) -> LayerInformation:
        return next(point for point in self.points if point.layer == layer)

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(point.layer for point in self.points)
