"""Normalised HSIC: how much two sets of observations of the same statements have in common. Dimensionless, not nats.

With ``K`` the centred Gaussian kernel of a variable, normalised HSIC of two variables is ``tr(R_a R_b)`` where
``R = K (K + ε I)⁻¹`` (Fukumizu et al. 2007). In the eigenvectors ``u`` of ``K``, with ``p`` the share of the kernel's
trace on each, ``R`` has eigenvalues ``r = p / (p + SHARE)``, so one decomposition per variable serves all its values:

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
NULL_COMPONENTS = 64
"""Leading components whose permutations are drawn; the rest adds to the null's mean and hardly to its spread."""
_JITTER = 1e-9
ROUNDING = 1e-8
"""Of the largest eigenvalue: what is below is what rounding leaves of a component that is not there."""


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
    matrix -= matrix.mean(dim=0)
    spread = torch.linalg.vector_norm(matrix, dim=0) / math.sqrt(len(matrix))
    return matrix.div_(torch.where(spread > 1e-9 * spread.max().clamp_min(1e-300), spread, torch.inf))


def choose_landmarks(n: int, landmarks: int, seed: int) -> Int64[np.ndarray, " m"]:
    """Rows drawn at random, all of them where there are no more than ``landmarks`` or that is 0."""
    if landmarks == 0 or landmarks >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:landmarks])


def squared_distances(one: Float64[Tensor, "n d"], other: Float64[Tensor, "m d"]) -> Float64[Tensor, "n m"]:
    first, second = (torch.linalg.vector_norm(each, dim=1).square_() for each in (one, other))
    lengths = first[:, None] + second
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
    half = torch.linalg.solve_triangular(root, _product(columns, columns), upper=False)
    values, vectors = _eigen(torch.linalg.solve_triangular(root, half.T, upper=False))
    kept = values > max(ROUNDING * float(values[-1]), 1e-9)
    values, vectors = values[kept].flip(0), vectors[:, kept].flip(1)
    basis = torch.linalg.solve_triangular(root.T, vectors / values.sqrt(), upper=True)
    trace = max(trace, float(values.sum()), 1e-300)
    return KernelFactor(columns, basis, values / trace, trace, bandwidth)


def _product(one: Float64[Tensor, "n m"], other: Float64[Tensor, "n k"]) -> Float64[Tensor, "m k"]:
    """``one.T @ other`` by NumPy, whose BLAS knows a Gram matrix for what it is, and spends half on it."""
    return torch.from_numpy(one.numpy().T @ other.numpy())


def _eigen(matrix: Float64[Tensor, "m m"]) -> tuple[Float64[Tensor, " m"], Float64[Tensor, "m m"]]:
    """Eigenvalues, the smallest first, and eigenvectors, by NumPy's LAPACK, which takes a third of torch's time."""
    values, vectors = np.linalg.eigh(matrix.numpy())
    return torch.from_numpy(values), torch.from_numpy(vectors)


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
    return float((left.T @ _product(one.features, other.features) @ right).square().sum())


@dataclass(frozen=True)
class Null:
    """What nHSIC is where two variables have nothing in common."""

    mean: float
    quantile: float
    """That of 95 %."""


def null(one: KernelFactor, other: KernelFactor, orders: Int64[np.ndarray, "n permutations"]) -> Null:
    """nHSIC when the statements of one variable are put in each of ``orders``.

    What the leading components add is computed; the rest, which hardly varies, is taken at its mean over all orders.
    """
    first, second = ((factor.components * factor.weights.sqrt())[:, :NULL_COMPONENTS] for factor in (one, other))
    values = torch.stack([(first.T @ second[order]).square().sum() for order in torch.as_tensor(orders).T])
    all_weights = float(one.weights.sum() * other.weights.sum())
    rest = (all_weights - float(first.square().sum() * second.square().sum())) / (one.n - 1)
    return Null(rest + float(values.mean()), rest + float(values.quantile(0.95)))
