import numpy as np
import pytest

from pipelines.estimators.nhsic import standardised
from pipelines.estimators.spectrum import entropy_rank, power_law, spectrum

WAVES = np.array([[np.sin(1 + 3 * i * j) for j in range(1, 9)] for i in range(1, 13)])
"""Twelve activations of eight features."""


@pytest.mark.parametrize("k", [1, 7, 200])
def test_equal_eigenvalues_count_themselves(k):
    assert entropy_rank(np.ones(k)) == pytest.approx(k)


def test_a_power_law_gives_its_exponent_back():
    assert power_law(np.arange(1, 301) ** -1.3) == pytest.approx(1.3)


def test_rankme_is_of_raw_singular_values():
    """Garrido et al. 2023, equation 1: p = sigma / ||sigma||_1 of Z itself."""
    sigma = np.linalg.svd(WAVES + 2, compute_uv=False)
    shares = sigma / np.abs(sigma).sum()
    found = spectrum((WAVES + 2).astype(np.float32))
    assert found.rankme == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-4)
    assert found.rankme != pytest.approx(spectrum(WAVES.astype(np.float32)).rankme, rel=0.05)


def test_alpha_req_weighs_ranks_as_its_authors_do(rng):
    """Least squares of log eigenvalue on log rank, ranks 4 to 100, weights 1 / rank, by its normal equations."""
    features = rng.normal(size=(300, 120)) * np.arange(1, 121) ** -0.8
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(features.T)))[::-1]
    ranks = np.arange(4, 101)
    design = np.stack([-np.log(ranks), np.ones(97)], axis=1)
    weights = np.diag(1 / ranks)
    expected = np.linalg.solve(design.T @ weights @ design, design.T @ weights @ np.log(eigenvalues[3:100]))[0]
    assert spectrum(features.astype(np.float32)).alpha_req == pytest.approx(expected, rel=1e-5)
    plain = -np.polyfit(np.log(ranks), np.log(eigenvalues[3:100]), 1)[0]
    assert abs(plain - expected) > 0.05


def test_wide_and_tall_activations_agree_with_singular_values(rng):
    for shape in ((40, 90), (90, 40)):
        features = (rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1]))).astype(np.float32)
        values = np.linalg.svd(standardised(features).numpy(), compute_uv=False) ** 2
        shares = values[values > 1e-12 * values[0]] / values.sum()
        found = spectrum(features)
        assert found.effective_rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-6)
        assert found.participation_ratio == pytest.approx(1 / np.sum(shares**2), rel=1e-6)
