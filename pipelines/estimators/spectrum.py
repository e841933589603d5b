"""The spectrum of activations: over how many directions their variance is spread.

By its closed form nHSIC counts leading components, so these numbers say whether a fall of I(T;X) is anything but the
activations' becoming more or less anisotropic.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

POWER_LAW = slice(2, 100)
"""Components over which alpha-ReQ is fitted: the third to the hundredth (Agrawal et al. 2022)."""


@dataclass(frozen=True)
class Spectrum:
    """Four summaries of the eigenvalues of a covariance."""

    effective_rank: float
    """Exponential of the eigenvalues' entropy (Roy & Vetterli 2007): 1 for a line, d for a sphere."""
    rankme: float
    """The same of the singular values, their roots (Garrido et al. 2023): it weighs small components more."""
    alpha_req: float
    """α where the i-th eigenvalue falls as i^-α (Agrawal et al. 2022)."""
    participation_ratio: float
    """(Σ λ)² / Σ λ²: it hardly sees small components."""


def spectrum(matrix: Float64[Tensor, "n d"]) -> Spectrum:
    """The spectrum of centred observations."""
    n, d = matrix.shape
    gram = matrix.T @ matrix if d <= n else matrix @ matrix.T
    values = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0).numpy()
    return summarise(values[values > 1e-12 * values[0]])


def summarise(eigenvalues: Float[np.ndarray, " k"]) -> Spectrum:
    """The summaries of positive ``eigenvalues`` in falling order; no numbers where there are none."""
    if not len(eigenvalues):
        return Spectrum(*[float("nan")] * 4)
    shares = eigenvalues / eigenvalues.sum()
    roots = np.sqrt(shares) / np.sqrt(shares).sum()
    return Spectrum(
        effective_rank=float(np.exp(-(shares * np.log(shares)).sum())),
        rankme=float(np.exp(-(roots * np.log(roots)).sum())),
        alpha_req=_power(shares),
        participation_ratio=float(1 / np.square(shares).sum()),
    )


def _power(shares: Float[np.ndarray, " k"]) -> float:
    ranks = np.arange(1, len(shares) + 1)[POWER_LAW]
    if len(ranks) < 2:
        return float("nan")
    return float(-np.polyfit(np.log(ranks), np.log(shares[POWER_LAW]), 1)[0])
