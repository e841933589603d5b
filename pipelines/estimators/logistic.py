"""Logistic regressions: many of them on the same features at once.

A layer is probed with dozens of regressions that share its features and differ in which rows they are fitted on, in
their labels and in their penalty: folds, seeds, candidates for C, shuffled labels. Solved together, each iteration is
two matrix products for all of them, where a regression fitted alone reads the features again at every iteration:
scikit-learn took 2.0 and 2.8 times as long for 60 problems of 880 × 192 on one thread of a busy machine. A problem is a
row of every matrix but the features, which are laid out once where they are large (``ReusedMatrix``).

Every problem ``k`` is the one that scikit-learn's ``LogisticRegression(C=C[k])`` solves after a ``StandardScaler``
fitted on its own rows:

    minimise over w, b    ½ ‖w‖² + C[k] Σᵢ mask[i, k] · log(1 + exp(-y[i, k] · (zᵢ · w + b))),    zᵢ = (xᵢ - mean) / std

The solver is L-BFGS (Nocedal & Wright, algorithm 7.5). Its initial inverse Hessian comes from the Cholesky factor of
Böhning's bound on the Hessian, ¼ C ZᵀZ + I, so that correlated features cost no more iterations than others.
Where there are more features than rows the same inverse comes from the smaller matrix ZZᵀ (Woodbury's identity).
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipelines.estimators.standardised_features import StandardisedFeatures

HISTORY = 8
LINE_SEARCH_STEPS = 8
LONGEST_STEP = 8.0


@dataclass(frozen=True)
class LogisticFits:
    """``k`` fitted regressions, their standardiser folded in: logit = x · weights + bias."""

    weights: Float[Tensor, "d k"]
    biases: Float[Tensor, " k"]
    fitted_logits: Float[Tensor, "n k"]
    """Of all rows of the features that were fitted on, in a problem's mask or not: the solver has them at its end."""
    iterations: int

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return (self.weights.T @ features.T).T + self.biases


def fit_logistic(
    features: Float[Tensor, "n d"] | StandardisedFeatures,
    labels: Bool[np.ndarray, "n k"],
    masks: Bool[np.ndarray, "n k"],
    penalties: Float[np.ndarray, " k"],
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
) -> LogisticFits:
    """Fit ``k`` regressions, the ``k``-th on the rows that ``masks[:, k]`` selects, with ``C = penalties[k]``.

    ``tolerance`` bounds the gradient's norm relative to its norm at zero weights. A constant feature gets weight zero.
    """
    shared = features if isinstance(features, StandardisedFeatures) else StandardisedFeatures.of(features)
    problems = _Problems.of(shared, labels, masks, penalties)
    parameters = shared.scaled.new_zeros(problems.k, problems.d + 1)
    margins = torch.zeros_like(problems.targets)
    gradient = problems.gradient(parameters, torch.full_like(margins, 0.5))
    threshold = tolerance * gradient.norm(dim=1)
    history: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=HISTORY)
    iterations = 0
    while iterations < max_iterations and bool((gradient.norm(dim=1) > threshold).any()):
        direction = -_two_loop(gradient, history, problems)
        rates = problems.targets * problems.logits(direction)
        step, misfits = problems.line_search(parameters, direction, gradient, margins, rates)
        margins += step * rates
        moved = step * direction
        parameters += moved
        updated = problems.gradient(parameters, misfits)
        change = updated - gradient
        curvature = _dot(moved, change)
        usable = curvature > 1e-10 * _dot(change, change)
        history.append((moved, change, torch.where(usable, 1 / curvature.clamp_min(1e-30), 0.0)))
        gradient = updated
        iterations += 1
    return problems.unstandardised(parameters, margins, iterations)


def _two_loop(gradient: Tensor, history: "deque[tuple[Tensor, Tensor, Tensor]]", problems: "_Problems") -> Tensor:
    result = gradient.clone()
    shares = []
    for moved, change, inverse_curvature in reversed(history):
        share = inverse_curvature * _dot(moved, result)
        result -= share * change
        shares.append(share)
    result = problems.precondition(result)
    for (moved, change, inverse_curvature), share in zip(history, reversed(shares), strict=True):
        result += moved * (share - inverse_curvature * _dot(change, result))
    return result


def _dot(first: Tensor, second: Tensor) -> Float[Tensor, "k 1"]:
    """The inner product of each problem's rows."""
    return (first * second).sum(dim=1, keepdim=True)  # by einsum it takes six times as long


@dataclass(frozen=True)
class _Problems:
    """The objective of all problems, in coordinates where the features are standardised over all rows.

    That first standardisation changes no solution, since each problem's own follows it; it keeps float32 accurate.
    """

    features: StandardisedFeatures
    means: Tensor
    """``[k, d]``, of each problem's rows."""
    inverse_stds: Tensor
    targets: Tensor
    """``[k, n]``, +1 or -1."""
    weights: Tensor
    """``[k, n]``, C where the row belongs to the problem, 0 elsewhere."""
    factors: tuple[tuple[Tensor | slice, Tensor], ...]
    """For each distinct C its problems, a slice where that is all of them, and the factor of their Hessians' bound."""

    @property
    def is_wide(self) -> bool:
        return self.features.is_wide

    @property
    def d(self) -> int:
        return self.features.scaled.shape[1]

    @property
    def k(self) -> int:
        return self.targets.shape[0]

    @classmethod
    def of(
        cls,
        shared: StandardisedFeatures,
        labels: Bool[np.ndarray, "n k"],
        masks: Bool[np.ndarray, "n k"],
        penalties: Float[np.ndarray, " k"],
    ) -> "_Problems":
        scaled = shared.scaled
        mask = torch.tensor(masks.T, dtype=scaled.dtype, device=scaled.device)
        means, inverse_stds = shared.moments(masks)
        rates = torch.tensor(penalties, dtype=scaled.dtype, device=scaled.device)[:, None]
        # Three folds of five and four of them have half of the rows, as far as their factors go.
        most = len(scaled) * 2.0 ** math.floor(math.log2(masks.sum(axis=0).max() / len(scaled)))
        distinct = np.unique(penalties)
        members = [torch.as_tensor(np.flatnonzero(penalties == each), device=scaled.device) for each in distinct]
        factors = tuple(
            (rows if len(distinct) > 1 else slice(None), shared.bound_factor(0.25 * float(penalty) * most))
            for penalty, rows in zip(distinct, members, strict=True)
        )
        targets = torch.tensor(labels.T, dtype=scaled.dtype, device=scaled.device) * 2 - 1
        return cls(shared, means, inverse_stds, targets, mask * rates, factors)

    def logits(self, parameters: Tensor) -> Tensor:
        slopes = parameters[:, :-1] * self.inverse_stds
        return self.features.projected(slopes) + (parameters[:, -1:] - _dot(self.means, slopes))

    def gradient(self, parameters: Tensor, misfits: Tensor) -> Tensor:
        """``misfits [k, n]`` are the probabilities given to the wrong label."""
        residuals = -self.weights * self.targets * misfits
        totals = residuals.sum(dim=1, keepdim=True)
        slopes = (self.features.summed(residuals) - self.means * totals) * self.inverse_stds + parameters[:, :-1]
        return torch.cat([slopes, totals], dim=1)

    def precondition(self, gradient: Tensor) -> Tensor:
        result = torch.empty_like(gradient)
        result[:, -1] = gradient[:, -1] / (0.25 * self.weights.sum(dim=1))
        slopes = gradient[:, :-1]
        if self.is_wide:  # both products are of all problems, whatever their C
            result[:, :-1] = slopes - self.features.summed(self._solved(self.features.projected(slopes)))
        else:
            result[:, :-1] = self._solved(slopes)
        return result

    def _solved(self, sides: Tensor) -> Tensor:
        """Each problem's right-hand side, a row, divided by the bound on its Hessian."""
        result = torch.empty_like(sides)
        for members, factor in self.factors:
            result[members] = torch.cholesky_solve(sides[members].T, factor).T
        return result

    def line_search(
        self, parameters: Tensor, direction: Tensor, gradient: Tensor, margins: Tensor, rates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """For each problem a step along ``direction`` near the least objective, and the misfits there.

        Margins are linear in the step, so Newton's method on it costs no further product with the features. The
        objective is convex: where its slope has fallen to a tenth, the step is long enough and not too long.
        """
        quadratic = _dot(direction[:, :-1], direction[:, :-1])
        linear = _dot(parameters[:, :-1], direction[:, :-1])
        wanted = 0.1 * _dot(gradient, direction).abs()
        step = torch.ones_like(quadratic)
        low, high = torch.zeros_like(step), torch.full_like(step, LONGEST_STEP)
        for _ in range(LINE_SEARCH_STEPS):
            misfits = torch.sigmoid(-(margins + step * rates))
            pull = self.weights * misfits * rates
            slope = linear + step * quadratic - pull.sum(dim=1, keepdim=True)
            if bool((slope.abs() <= wanted).all()):
                return step, misfits
            bend = quadratic + (pull * (1 - misfits) * rates).sum(dim=1, keepdim=True)
            low, high = torch.where(slope < 0, step, low), torch.where(slope > 0, step, high)
            newton = step - slope / bend.clamp_min(1e-30)
            inside = (newton > low) & (newton < high)
            step = torch.where(slope.abs() <= wanted, step, torch.where(inside, newton, (low + high) / 2))
        return step, torch.sigmoid(-(margins + step * rates))

    def unstandardised(self, parameters: Tensor, margins: Tensor, iterations: int) -> LogisticFits:
        scaled = parameters[:, :-1] * self.inverse_stds
        weights = (scaled / self.features.spread).T
        biases = parameters[:, -1] - _dot(self.means, scaled)[:, 0] - self.features.centre @ weights
        return LogisticFits(weights, biases, (self.targets * margins).T, iterations)
