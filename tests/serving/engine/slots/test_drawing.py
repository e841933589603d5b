"""Drawing under grammars and with log-probabilities: row by row what each would get alone, by the plainest sums."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from serving.engine.base import Sampling
from serving.engine.slots import drawing, sampling
from serving.engine.slots.sampling import block_maxima, draw, log_probabilities_of_rows, masked
from tests.mutants import mutant

VOCABULARY = 301
RNG = np.random.default_rng(3)


class Allowing:
    def __init__(self, allowed):
        self._bits = np.packbits(allowed, bitorder="little")

    def allowed(self):
        return self._bits


def sequence(allowed=None, number=0.0, **given):
    asked = Sampling(8, **{"temperature": 0.0, **given})
    grammar = None if allowed is None else Allowing(allowed)
    return SimpleNamespace(grammar=grammar, sampling=asked, next_number=lambda: number)


def cases():
    """Rows of every kind, and what each allows: everything, all but its likeliest token, its likeliest, a few."""
    logits = 3 * torch.randn(8, VOCABULARY, generator=torch.Generator().manual_seed(1))
    best = logits.argmax(dim=-1).tolist()
    allowed = [np.ones(VOCABULARY, bool) for _ in best]
    for row in (1, 5):
        allowed[row][best[row]] = False
    for row in (2, 6):
        allowed[row] = np.arange(VOCABULARY) == best[row] - 1
    allowed[3] = RNG.random(VOCABULARY) < 0.1
    given = [None, *allowed[1:4], None, *allowed[5:7], allowed[7]]
    allowed[7][np.argsort(-logits[7].numpy())[1:60]] = False  # its likeliest may follow, and most others may not
    drawn = [{"temperature": 1.0, "number": number} for number in (0.3, 0.5, 0.9, 0.9)]
    return logits, given, [sequence(given[row], **([{}] * 4 + drawn)[row]) for row in range(8)]


def expected(logits, given, sequences):
    tokens = []
    for row, running in enumerate(sequences):
        own = logits[row].clone()
        if given[row] is not None:
            own[torch.from_numpy(~given[row])] = -torch.inf
        if running.sampling.is_greedy:
            tokens.append(int(own.argmax()))
        else:
            tokens += draw(own[None], [1.0], [1.0], [running.next_number()])
    return tokens


def alone(logits, row, token, top):
    of_row = logits[row : row + 1]
    return log_probabilities_of_rows(of_row, block_maxima(of_row), [token], top)


def test_rows_are_drawn_as_each_would_be_alone():
    logits, given, sequences = cases()
    before = logits.clone()
    assert drawing.draw_tokens(logits, block_maxima(logits), sequences) == expected(logits, given, sequences)
    assert torch.equal(logits, before)  # log-probabilities are the model's own


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("drawing[row].sampling.is_greedy and _has_bit(", "_has_bit("),
        ("bool(bits[byte] >> bit & 1)", "bool(bits[byte])"),
        ("logits = logits.clone()", "pass"),
        ("logits[constrained] = possible", "pass"),
        ("greedy[row], sound[row] = possible_token, is_sound", "pass"),
    ],
)
def test_a_changed_rule_of_masking_is_seen(passage, replacement):
    with mutant(drawing, passage, replacement) as changed:
        logits, given, sequences = cases()
        before = logits.clone()
        tokens = changed.draw_tokens(logits, block_maxima(logits), sequences)
        assert tokens != expected(before, given, sequences) or not torch.equal(logits, before)


def test_a_row_is_masked_by_its_own_bits():
    logits = torch.zeros(2, 20)
    bits = [np.array([0b101, 0], np.uint8), np.array([0, 0b10], np.uint8)]
    finite = [row.isfinite().nonzero()[:, 0].tolist() for row in masked(logits, bits)]
    assert finite == [[0, 2], [9]]
    with mutant(sampling, 'bitorder="little"', 'bitorder="big"') as reversed_bits:
        assert reversed_bits.masked(logits, bits)[0].isfinite().nonzero()[:, 0].tolist() != [0, 2]


def test_log_probabilities_are_of_the_rows_that_ask():
    logits = torch.randn(5, VOCABULARY, generator=torch.Generator().manual_seed(2))
    tops = [None, 3, 0, 3, 5]
    sequences = [sequence(top_logprobs=top) for top in tops]
    tokens = [7, 8, 9, None, 11]
    found = drawing.logprobs_of_drawn(logits, block_maxima(logits), sequences, tokens)
    assert found.keys() == {1, 2, 4}
    for row in found:
        assert [found[row]] == alone(logits, row, tokens[row], tops[row])


def test_what_one_rows_log_probabilities_raise_is_its_own(monkeypatch):
    def failing(logits, maxima, tokens, top):
        if 9 in tokens:
            raise RuntimeError("only this row")
        return log_probabilities_of_rows(logits, maxima, tokens, top)

    monkeypatch.setattr(drawing, "log_probabilities_of_rows", failing)
    logits = torch.zeros(3, VOCABULARY)
    found = drawing.logprobs_of_drawn(logits, block_maxima(logits), [sequence(top_logprobs=1)] * 3, [8, 9, 10])
    assert isinstance(found[1], RuntimeError)
    assert found[0] == found[2] == alone(logits, 0, 8, 1)[0]


def test_logits_that_are_no_numbers_draw_nothing():
    logits = torch.zeros(2, VOCABULARY)
    logits[0, 5] = torch.nan
    nothing = np.zeros(VOCABULARY, bool)
    tokens = drawing.draw_tokens(logits, block_maxima(logits), [sequence(np.ones(VOCABULARY, bool)), sequence(nothing)])
    assert tokens == [None, None]
