"""The spectrum of activations: over how many directions their variance is spread.

By its closed form nHSIC counts leading components, so these numbers say whether a fall of I(T;X) is anything but the
activations' becoming more or less anisotropic.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pipelines.estimators.nhsic import standardised

POWER_LAW = slice(3, 100)
"""Components over which alpha-ReQ is fitted: the fourth to the hundredth, as in its authors' code."""


@dataclass(frozen=True)
class Spectrum:
    """Four summaries of a spectrum; which activations each is of is part of its definition."""

    effective_rank: float
    """Exponential of the entropy of the standardised activations' eigenvalues (Roy & Vetterli 2007): 1 for a line, d
    for a sphere."""
    rankme: float
    """The same of the singular values of the activations as they are, neither centred nor scaled (Garrido et al.
    2023)."""
    alpha_req: float
    """α where the i-th eigenvalue of the centred activations falls as i^-α, ranks weighted by 1 / i (Agrawal et al.
    2022, who follow Stringer et al. 2019)."""
    participation_ratio: float
    """(Σ λ)² / Σ λ² of the standardised activations' eigenvalues: it hardly sees small components."""


def spectrum(features: Float[np.ndarray, "n d"]) -> Spectrum:
    """The spectrum of activations."""
    raw = torch.tensor(features, dtype=torch.float64)
    shares = _eigenvalues(standardised(features))
    shares = shares / shares.sum()
    return Spectrum(
        effective_rank=entropy_rank(shares),
        rankme=entropy_rank(np.sqrt(_eigenvalues(raw))),
        alpha_req=power_law(_eigenvalues(raw - raw.mean(dim=0))),
        participation_ratio=float(1 / np.square(shares).sum()),
    )


def entropy_rank(values: Float[np.ndarray, " k"]) -> float:
    """The exponential of the entropy of positive ``values`` as shares of their sum."""
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def power_law(eigenvalues: Float[np.ndarray, " k"]) -> float:
    """The exponent of falling ``eigenvalues``; not a number where there are fewer than two in the range."""
    ranks = np.arange(1, len(eigenvalues) + 1)[POWER_LAW]
    if len(ranks) < 2:
        return float("nan")
    return float(-np.polyfit(np.log(ranks), np.log(eigenvalues[POWER_LAW]), 1, w=ranks**-0.5)[0])


def _eigenvalues(matrix: Float64[Tensor, "n d"]) -> Float[np.ndarray, " k"]:
    """Squared singular values in falling order, without those that rounding leaves."""
    n, d = matrix.shape
    gram = matrix.T @ matrix if d <= n else matrix @ matrix.T
    values: Float[np.ndarray, " k"] = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0).numpy()
    kept = values[values > 1e-12 * values[0]]
    return kept if len(kept) else np.ones(1)
