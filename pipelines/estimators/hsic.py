"""Bias-corrected HSIC and CKA: dependence whose expectation is zero for independent variables, whatever their rank.

HSIC as usually estimated grows with the kernels' effective dimension even under independence. The U-statistic of Song
et al. (2012, equation 5) does not. With kernels that are centred already their row sums vanish, and it becomes

    [ ‖Φᵀ Ψ‖² - (1 + 2 / (n - 2)) Σ kᵢ lᵢ + (Σ kᵢ) (Σ lᵢ) / ((n - 1) (n - 2)) ] / (n (n - 3)),    k, l the diagonals
"""

from pipelines.estimators.nhsic import KernelFactor


def unbiased_hsic(one: KernelFactor, other: KernelFactor) -> float:
    """The U-statistic of HSIC; negative by chance where there is no dependence."""
    n = one.n
    phi, psi = (factor.components * (factor.shares * factor.trace).sqrt() for factor in (one, other))
    k, l = phi.square().sum(dim=1), psi.square().sum(dim=1)  # noqa: E741
    paired = (1 + 2 / (n - 2)) * (k @ l)
    means = k.sum() * l.sum() / ((n - 1) * (n - 2))
    return float(((phi.T @ psi).square().sum() - paired + means) / (n * (n - 3)))


def debiased_cka(one: KernelFactor, other: KernelFactor) -> float:
    """Centred kernel alignment from the U-statistics: 1 for equal geometry, 0 on average for none in common.

    Not a number where a variable's own U-statistic is not positive.
    """
    own = unbiased_hsic(one, one) * unbiased_hsic(other, other)
    return unbiased_hsic(one, other) / own**0.5 if own > 0 else float("nan")
