"""Shares of a step's tokens: all are used, nobody has less than an equal share, and none is more than is unread."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.slots.prompt_shares import prompt_shares


@pytest.mark.parametrize(
    ("unread", "shares"),
    [
        ({"a": 90}, {"a": 8}),
        ({"a": 90, "b": 2}, {"a": 6, "b": 2}),
        ({"a": 90, "b": 90}, {"a": 4, "b": 4}),
        ({"a": 90, "b": 3, "c": 90}, {"b": 3, "a": 3, "c": 2}),
        ({}, {}),
    ],
)
def test_short_prompts_are_read_whole(unread, shares):
    assert prompt_shares(unread, 8) == shares


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 500), max_size=20), st.integers(1, 300))
@settings(deadline=None)
def test_no_client_has_less_than_an_equal_share(unread, budget):
    shares = prompt_shares(unread, budget)
    assert sum(shares.values()) == min(budget, sum(unread.values()))
    for client, tokens in unread.items():
        assert min(tokens, budget // len(unread)) <= shares[client] <= tokens
