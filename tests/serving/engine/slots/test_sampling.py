"""Sampling: log-probabilities of the token drawn and of the likeliest, against plain sums."""

import pytest
import torch

from serving.engine.slots.sampling import block_maxima, draw, likeliest, log_probabilities_of_rows


@pytest.mark.parametrize("vocabulary", [7, 256, 700, 5000, 49152])
@pytest.mark.parametrize("top", [0, 1, 5, 20])
def test_the_likeliest_tokens_are_those_of_a_sort(vocabulary, top):
    rows = 3 * torch.randn(4, vocabulary, generator=torch.Generator().manual_seed(vocabulary + top))
    rows[1, 100::3] = -torch.inf  # as a grammar leaves them
    drawn = [1, 2, vocabulary - 1, vocabulary // 2]
    plain = rows.double().log_softmax(dim=-1)
    for row, (own, best) in enumerate(log_probabilities_of_rows(rows, block_maxima(rows), drawn, top)):
        values, tokens = plain[row].sort(descending=True)
        assert own == pytest.approx(float(plain[row, drawn[row]]), abs=1e-4)
        assert [token for token, _ in best] == tokens[:top].tolist()
        assert [value for _, value in best] == pytest.approx(values[:top].tolist(), abs=1e-4)


def test_the_likeliest_may_share_a_block_or_be_last():
    rows = torch.zeros(1, 1000)
    rows[0, [999, 998, 3, 4, 5]] = torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0])
    ((_, best),) = log_probabilities_of_rows(rows, block_maxima(rows), [3], 3)
    assert [token for token, _ in best] == [999, 998, 3]


@pytest.mark.parametrize("top", [0, 1, 20])
def test_no_rows_have_no_log_probabilities(top):
    nothing = torch.zeros(0, 700)
    assert log_probabilities_of_rows(nothing, block_maxima(nothing), [], top) == []


@pytest.mark.parametrize("vocabulary", [7, 255, 256, 257, 511, 700])
def test_the_likeliest_token_is_the_first_of_equals(vocabulary):
    rows = torch.randint(-3, 4, (40, vocabulary), generator=torch.Generator().manual_seed(vocabulary)).bfloat16()
    rows[0, -1] = 9.0
    rows[1] = -torch.inf
    rows[2, vocabulary // 2] = torch.nan
    rows[3, 0] = torch.inf
    tokens, sound = likeliest(rows, block_maxima(rows))
    assert sound == [True, False, False, False] + [True] * 36
    values = rows.float().numpy()
    assert [tokens[0], *tokens[4:]] == [vocabulary - 1, *(int(row.argmax()) for row in values[4:])]


def test_log_probabilities_of_a_row_are_its_own_bits():
    """Whatever rows are beside it."""
    rows = 5 * torch.randn(6, 700, generator=torch.Generator().manual_seed(4)).bfloat16()
    together = log_probabilities_of_rows(rows, block_maxima(rows), [1, 2, 3, 4, 5, 6], 3)
    for row in range(6):
        (alone,) = log_probabilities_of_rows(rows[row : row + 1], block_maxima(rows[row : row + 1]), [row + 1], 3)
        assert together[row] == alone


def test_what_is_drawn_is_computed_in_float32():
    """In bfloat16, differences of large logits would be rounded away."""
    rows = (90 + torch.rand(3, 700, generator=torch.Generator().manual_seed(5))).bfloat16()
    numbers = [0.1, 0.5, 0.9]
    running = (rows.double() / 0.7).softmax(dim=-1).cumsum(dim=-1)
    expected = [int((row > number).nonzero()[0]) for row, number in zip(running, numbers, strict=True)]
    assert draw(rows, [0.7] * 3, [1.0] * 3, numbers) == draw(rows.float(), [0.7] * 3, [1.0] * 3, numbers) == expected
