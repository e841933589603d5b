"""Directions that should do nothing: what a steering vector must do better than."""

import numpy as np
from jaxtyping import Bool, Float32

from pipelines.estimators.mass_mean import fit_mass_mean


def random_direction(d_model: int, *, seed: int | tuple[int, ...]) -> Float32[np.ndarray, " d_model"]:
    """A unit vector drawn evenly from the sphere."""
    drawn = np.random.default_rng(seed).normal(size=d_model)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def shuffled_direction(
    features: Float32[np.ndarray, "n d_model"], labels: Bool[np.ndarray, " n"], *, seed: int
) -> Float32[np.ndarray, " d_model"]:
    """The mass-mean direction of the same activations under permuted labels: it lies where activations scatter.

    Half of each class is given either label. Under a free permutation one class has the majority by chance, and where
    the classes lie far apart that alone would turn the direction to the true one, or its reverse.
    """
    rng = np.random.default_rng(seed)
    permuted = np.zeros(len(labels), bool)
    for kind in (False, True):
        rows = np.flatnonzero(labels == kind)
        permuted[rng.permutation(rows)[: len(rows) // 2]] = True
    return fit_mass_mean(features, permuted).direction
