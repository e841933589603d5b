"""Jackknife of nHSIC: its values on random halves of the groups, for how far it would move with other statements.

The spread of an estimate over halves is its standard error on the whole (delete-half jackknife, Shao & Wu 1989).
Groups are halved, not statements, since those of one group are not independent. The halves are the same at every
checkpoint, so that each of them has a curve, and a peak, of its own.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from pipelines.estimators.nhsic import SHARE, KernelFactor

HALVES = 20
LEADING = 128
"""Components that the halves are computed in; the rest hardly moves a spread."""


def jackknife_halves(groups: Int64[np.ndarray, " n"], seed: int, halves: int = HALVES) -> Bool[np.ndarray, "halves n"]:
    """Which statements are in each half; every second half is the complement of the one before it."""
    _, members = np.unique(groups, return_inverse=True)
    n_groups = int(members.max()) + 1
    rng = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    while len(chosen) < halves:
        half = np.zeros(n_groups, bool)
        half[rng.permutation(n_groups)[: n_groups // 2]] = True
        chosen += [half[members], ~half[members]]
    return np.stack(chosen[:halves])


def nhsic_on_halves(
    one: KernelFactor, other: KernelFactor, halves: Bool[np.ndarray, "halves n"]
) -> Float64[np.ndarray, " halves"]:
    """nHSIC of two variables on each half, in the leading components of the whole."""
    masks = torch.tensor(halves, dtype=torch.float64)
    first, second = _leading(one), _leading(other)
    left, cross, right = (_scatter(a, b, masks) for a, b in ((first, first), (first, second), (second, second)))
    inner = torch.linalg.solve(_ridged(left), cross) @ torch.linalg.solve(_ridged(right), cross.mT)
    values: Float64[np.ndarray, " halves"] = inner.diagonal(dim1=1, dim2=2).sum(dim=1).numpy()
    return values


def _leading(factor: KernelFactor) -> Float64[Tensor, "n k"]:
    return factor.components[:, :LEADING] * factor.shares[:LEADING].sqrt()


def _scatter(one: Tensor, other: Tensor, masks: Float64[Tensor, "halves n"]) -> Float64[Tensor, "halves k l"]:
    """Cross products of two sets of coordinates, centred within each half."""
    counts = masks.sum(dim=1)[:, None, None]
    products = torch.stack([one[mask.bool()].T @ other[mask.bool()] for mask in masks])
    return products - (masks @ one)[:, :, None] * (masks @ other)[:, None, :] / counts


def _ridged(scatter: Float64[Tensor, "halves k k"]) -> Float64[Tensor, "halves k k"]:
    trace = scatter.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    return scatter + SHARE * trace * torch.eye(scatter.shape[1], dtype=torch.float64)
