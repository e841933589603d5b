"""The logarithm of a row's sum of exponentials, whatever rows and threads are beside it."""

import pytest
import torch

from serving.model import log_sums
from serving.model.log_sums import log_sum_exp
from tests.mutants import mutant
from tests.threads import threads_of_torch


@pytest.fixture
def two_threads():
    with threads_of_torch(2):
        yield


def logits(rows, vocabulary, spread=5.0):
    return spread * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(vocabulary))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocabulary", [1, 7, 256, 300, 6144, 49152])
def test_it_is_that_of_float64(vocabulary, dtype):
    rows = logits(23, vocabulary).to(dtype)
    expected = rows.double().logsumexp(dim=-1)
    for largest in (None, rows.amax(dim=-1)):
        assert (log_sum_exp(rows, largest).double() - expected).abs().max() < 3e-6


def test_large_and_impossible_logits_are_counted():
    rows = torch.tensor([[1e4, 1e4, -torch.inf], [-1e4, -torch.inf, -1e4]])
    torch.testing.assert_close(log_sum_exp(rows), rows.double().logsumexp(dim=-1).float())
    assert log_sum_exp(torch.tensor([[1.0, torch.nan]])).isnan().all()


def test_no_rows_have_none():
    assert log_sum_exp(torch.empty(0, 96)).shape == (0,)


def test_a_row_has_its_own_bits(two_threads):
    rows = logits(23, 49_152).bfloat16()
    together = log_sum_exp(rows)
    for row in range(23):
        assert log_sum_exp(rows[row : row + 1]) == together[row]
    with mutant(log_sums, "_sums(powers.exp2_())", "powers.exp2_().sum(dim=-1)") as changed:
        found = changed.log_sum_exp(rows)
        assert any(changed.log_sum_exp(rows[row : row + 1]) != found[row] for row in range(23))
