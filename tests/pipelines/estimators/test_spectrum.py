import numpy as np
import pytest

from pipelines.estimators.nhsic import standardised
from pipelines.estimators.spectrum import spectrum, summarise


@pytest.mark.parametrize("k", [1, 7, 200])
def test_equal_eigenvalues_count_themselves(k):
    found = summarise(np.ones(k))
    assert found.effective_rank == pytest.approx(k)
    assert found.rankme == pytest.approx(k)
    assert found.participation_ratio == pytest.approx(k)


def test_a_power_law_gives_its_exponent_back():
    assert summarise(np.arange(1, 301) ** -1.3).alpha_req == pytest.approx(1.3)


def test_small_components_weigh_more_in_rankme_and_least_in_the_participation_ratio():
    found = summarise(np.array([1.0, *[0.01] * 50]))
    assert found.participation_ratio < found.effective_rank < found.rankme


def test_wide_and_tall_activations_give_the_same_spectrum_as_a_singular_value_decomposition(rng):
    for shape in ((40, 90), (90, 40)):
        matrix = standardised(rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1])))
        values = np.linalg.svd(matrix.numpy(), compute_uv=False) ** 2
        expected = summarise(values[values > 1e-12 * values[0]])
        found = spectrum(matrix)
        assert found.effective_rank == pytest.approx(expected.effective_rank, rel=1e-9)
        assert found.rankme == pytest.approx(expected.rankme, rel=1e-6)
