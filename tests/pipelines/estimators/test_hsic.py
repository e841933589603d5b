import numpy as np
import pytest

from pipelines.estimators.hsic import debiased_cka, unbiased_hsic
from pipelines.estimators.nhsic import choose_landmarks, kernel_factors, nhsic, standardised


def factor(features):
    return kernel_factors(standardised(features), choose_landmarks(len(features), 0, 0))[0]


def literal(one, other):
    """Song et al. 2012, equation 5, on the kernels themselves."""
    kernels = []
    for features in (one, other):
        matrix = standardised(features)
        points = matrix.numpy()
        squares = ((points[:, None] - points[None]) ** 2).sum(axis=2)
        kernel = np.exp(-squares / (2 * factor(features).bandwidth ** 2))
        np.fill_diagonal(kernel, 0)
        kernels.append(kernel)
    k, l = kernels  # noqa: E741
    n = len(one)
    ones = np.ones(n)
    first = np.trace(k @ l) + (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return (first - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3))


def test_it_is_the_u_statistic_of_the_kernels(rng):
    one = rng.normal(size=(50, 4))
    other = one[:, :2] + rng.normal(size=(50, 2))
    assert unbiased_hsic(factor(one), factor(other)) == pytest.approx(literal(one, other), rel=1e-5)


def test_without_dependence_it_averages_zero_where_nhsic_does_not(rng):
    pairs = [(factor(rng.normal(size=(60, 8))), factor(rng.normal(size=(60, 8)))) for _ in range(60)]
    unbiased = np.array([debiased_cka(*pair) for pair in pairs])
    assert abs(unbiased.mean()) < 2.5 * unbiased.std() / np.sqrt(60)
    assert np.mean([nhsic(*pair) for pair in pairs]) > 1


def test_alignment_with_itself_is_one_and_falls_with_noise(rng):
    one = rng.normal(size=(120, 4))
    near, far = one + 0.3 * rng.normal(size=one.shape), one + 2 * rng.normal(size=one.shape)
    assert debiased_cka(factor(one), factor(one)) == pytest.approx(1)
    assert 1 > debiased_cka(factor(one), factor(near)) > debiased_cka(factor(one), factor(far)) > 0
