"""Normalised HSIC: how much two sets of observations of the same statements have in common. Dimensionless, not nats.

With ``K`` the centred Gaussian kernel of a variable, normalised HSIC of two variables is ``tr(R_a R_b)`` where
``R = K (K + ε I)⁻¹`` (Fukumizu et al. 2007). In the eigenvectors ``u`` of ``K``, with ``p`` the share of the kernel's
trace on each, ``R`` has eigenvalues ``r = p / (p + SHARE)``, so one decomposition a variable serves all its values:

    nHSIC(A, B) = Σᵢⱼ rᵢ sⱼ ⟨uᵢ, vⱼ⟩²        nHSIC(A, A) = Σᵢ rᵢ², an effective dimension

Everything is in float64 and centred on both sides. The kernel is decomposed through landmarks (Nyström): memory and
time are linear in the number of statements, and exact where there are no more statements than landmarks.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

SHARE = 0.025
"""A component that holds this share of the trace counts by half: what the paper's constants, ``σ² ε``, amount to."""
LANDMARKS = 384
NULL_COMPONENTS = 64
"""Leading components whose permutations are drawn; the rest adds to the null's mean and hardly to its spread."""
_JITTER = 1e-9


@dataclass(frozen=True)
class KernelFactor:
    """The centred kernel of ``n`` observations, decomposed: its eigenvectors are ``features @ basis``."""

    features: Float64[Tensor, "n m"]
    """Centred kernel columns of the landmarks."""
    basis: Float64[Tensor, "m k"]
    shares: Float64[Tensor, " k"]
    """Eigenvalues, the largest first, as shares of the kernel's whole trace; the landmarks miss the rest to 1."""
    trace: float
    bandwidth: float
    """The kernel's σ, in standard deviations of a feature; 0 for labels, whose kernel is linear."""

    @property
    def n(self) -> int:
        return len(self.features)

    @property
    def weights(self) -> Float64[Tensor, " k"]:
        """The eigenvalues of ``R``."""
        return self.shares / (self.shares + SHARE)

    @cached_property
    def components(self) -> Float64[Tensor, "n k"]:
        """Orthonormal columns."""
        return self.features @ self.basis


def standardised(features: Float[np.ndarray, "n d"]) -> Float64[Tensor, "n d"]:
    """Every feature with mean 0 and standard deviation 1; a constant feature stays at 0."""
    matrix = torch.tensor(features, dtype=torch.float64)
    matrix = matrix - matrix.mean(dim=0)
    spread = matrix.square().mean(dim=0).sqrt()
    return matrix / torch.where(spread > 1e-9 * spread.max().clamp_min(1e-300), spread, torch.inf)


def choose_landmarks(n: int, landmarks: int, seed: int) -> Int64[np.ndarray, " m"]:
    """Rows drawn at random, all of them where there are no more than ``landmarks`` or that is 0."""
    if landmarks == 0 or landmarks >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:landmarks])


def squared_distances(one: Float64[Tensor, "n d"], other: Float64[Tensor, "m d"]) -> Float64[Tensor, "n m"]:
    lengths = one.square().sum(dim=1)[:, None] + other.square().sum(dim=1)
    return torch.addmm(lengths, one, other.T, alpha=-2).clamp_min_(0)


def median_bandwidth(squares: Float64[Tensor, "m m"]) -> float:
    """The median distance between two observations, of their squared distances."""
    rows, columns = torch.triu_indices(squares.shape[0], squares.shape[1], offset=1)
    above = squares[rows, columns]
    return math.sqrt(float(above.median())) if len(above) else 0.0


def kernel_factors(
    matrix: Float64[Tensor, "n d"], landmarks: Int64[np.ndarray, " m"], scales: tuple[float, ...] = (1.0,)
) -> tuple[KernelFactor, ...]:
    """The Gaussian kernel of standardised observations, once for each multiple of the landmarks' median distance."""
    centres = torch.as_tensor(landmarks)
    squares = squared_distances(matrix, matrix[centres])
    # Where most observations are equal any bandwidth will do; √d is that of standardised features.
    median = median_bandwidth(squares[centres]) or math.sqrt(matrix.shape[1])
    return tuple(_decomposed(squares, centres, scale * median) for scale in scales)


def _decomposed(squares: Float64[Tensor, "n m"], landmarks: Tensor, bandwidth: float) -> KernelFactor:
    """With ``W = L Lᵀ`` the landmarks' own kernel and ``C`` all statements' with them, the kernel is ``C W⁻¹ Cᵀ``."""
    n, m = squares.shape
    columns = (squares / (-2 * bandwidth**2)).exp_()
    within = columns[landmarks] + _JITTER * m * torch.eye(m, dtype=torch.float64)
    root = torch.linalg.cholesky((within + within.T) / 2)
    means = columns.mean(dim=0)
    columns -= means
    # The diagonal of the kernel is 1: its centred trace needs no more than the mean of its entries.
    trace = n - n * float(torch.linalg.solve_triangular(root, means[:, None], upper=False).square().sum())
    half = torch.linalg.solve_triangular(root, columns.T @ columns, upper=False)
    values, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.T, upper=False))
    kept = values > max(1e-10 * float(values[-1]), 1e-9)
    values, vectors = values[kept].flip(0), vectors[:, kept].flip(1)
    basis = torch.linalg.solve_triangular(root.T, vectors / values.sqrt(), upper=True)
    trace = max(trace, float(values.sum()), 1e-300)
    return KernelFactor(columns, basis, values / trace, trace, bandwidth)


def label_factor(labels: Bool[np.ndarray, " n"]) -> KernelFactor:
    """Labels, whose centred kernel of any bandwidth has one component: nHSIC with it is a ridge regression's R²."""
    centred = torch.tensor(labels, dtype=torch.float64)
    centred = centred - centred.mean()
    trace = float(centred.square().sum())
    one = torch.ones(1, dtype=torch.float64)
    return KernelFactor(centred[:, None], one[:, None] / trace**0.5, one, trace, 0.0)


def nhsic(one: KernelFactor, other: KernelFactor) -> float:
    """``tr(R R')``, between 0 and the smaller effective dimension of the two."""
    if one is other:
        return float(one.weights.square().sum())
    left, right = (factor.basis * factor.weights.sqrt() for factor in (one, other))
    return float((left.T @ (one.features.T @ other.features) @ right).square().sum())


def null_mean(one: KernelFactor, other: KernelFactor) -> float:
    """What nHSIC is on average when the statements of one variable are permuted: ``tr(R) tr(R') / (n - 1)``."""
    return float(one.weights.sum() * other.weights.sum()) / (one.n - 1)


def null_quantile(one: KernelFactor, other: KernelFactor, permutations: int, seed: int) -> float:
    """The 95 % quantile of nHSIC when the statements of one variable are permuted freely.

    The mean is exact; the fluctuation around it is that of the leading components in so many ``permutations``.
    """
    rng = np.random.default_rng(seed)
    first, second = ((factor.components * factor.weights.sqrt())[:, :NULL_COMPONENTS] for factor in (one, other))
    orders = torch.as_tensor(np.stack([rng.permutation(len(first)) for _ in range(permutations)], axis=1))
    products = first.T @ second[orders].flatten(1)
    values = products.view(-1, permutations, second.shape[1]).square().sum(dim=(0, 2))
    expected = float(first.square().sum() * second.square().sum()) / (len(first) - 1)
    return null_mean(one, other) + float(values.quantile(0.95)) - expected
