"""Sampling: log-probabilities of the token drawn and of the likeliest, against plain sums."""

import pytest
import torch

from serving.engine.slots.sampling import log_probabilities_of_rows


@pytest.mark.parametrize("vocabulary", [7, 256, 700, 5000, 49152])
@pytest.mark.parametrize("top", [0, 1, 5, 20])
def test_the_likeliest_tokens_are_those_of_a_sort(vocabulary, top):
    rows = 3 * torch.randn(4, vocabulary, generator=torch.Generator().manual_seed(vocabulary + top))
    rows[1, 100::3] = -torch.inf  # as a grammar leaves them
    drawn = [1, 2, vocabulary - 1, vocabulary // 2]
    plain = rows.double().log_softmax(dim=-1)
    for row, (own, likeliest) in enumerate(log_probabilities_of_rows(rows, drawn, top)):
        values, tokens = plain[row].sort(descending=True)
        assert own == pytest.approx(float(plain[row, drawn[row]]), abs=1e-4)
        assert [token for token, _ in likeliest] == tokens[:top].tolist()
        assert [value for _, value in likeliest] == pytest.approx(values[:top].tolist(), abs=1e-4)


def test_the_likeliest_may_share_a_block_or_be_last():
    rows = torch.zeros(1, 1000)
    rows[0, [999, 998, 3, 4, 5]] = torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0])
    ((_, likeliest),) = log_probabilities_of_rows(rows, [3], 3)
    assert [token for token, _ in likeliest] == [999, 998, 3]


@pytest.mark.parametrize("top", [0, 1, 20])
def test_no_rows_have_no_log_probabilities(top):
    assert log_probabilities_of_rows(torch.zeros(0, 700), [], top) == []
