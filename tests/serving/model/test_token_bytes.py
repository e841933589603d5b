"""Bytes, labels and pieces of tokens, for tokenizers of every kind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.model.token_bytes import TokenBytes
from tests.serving.model.tokenizers_of_each_kind import BYTES, SPECIAL, words

MADE = {name: make() for name, make in BYTES.items()}
TEXTS = st.text(st.sampled_from("abc the 漢字😀🌶é\n"), max_size=12)


@pytest.mark.parametrize("kind", BYTES)
@given(text=TEXTS)
@settings(deadline=None)
def test_bytes_of_tokens_join_to_the_text(kind, text):
    tokenizer, vocabulary = MADE[kind], TokenBytes(MADE[kind])
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    joined = b"".join(map(vocabulary.of, tokens)).decode()
    assert joined == (f" {text}" if kind == "byte-fallback" and tokens else text)
    assert "".join(vocabulary.pieces(tokens)) == text == tokenizer.decode(tokens)


@pytest.mark.parametrize("kind", BYTES)
def test_every_label_is_distinct_and_tells_its_bytes(kind):
    tokenizer, vocabulary = MADE[kind], TokenBytes(MADE[kind])
    tokens = range(len(tokenizer))
    assert len({vocabulary.label(token) for token in tokens}) == len(tokens)
    smile = [token for token in tokens if vocabulary.of(token) == b"\xf0"]
    assert [vocabulary.label(token) for token in smile] == ["bytes:\\xf0"]
    assert vocabulary.of(len(tokenizer) + 5) == b""  # a padded vocabulary


def test_a_character_comes_with_the_last_of_its_tokens():
    for tokenizer in MADE.values():
        pieces = TokenBytes(tokenizer).pieces(tokenizer("😀" * 8, add_special_tokens=False)["input_ids"])
        assert [piece for piece in pieces if piece] == ["😀"] * 8
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


def test_special_tokens_have_a_name_and_no_text():
    for tokenizer in (*MADE.values(), words()):
        vocabulary, token = TokenBytes(tokenizer), tokenizer.convert_tokens_to_ids(SPECIAL)
        assert (vocabulary.of(token), vocabulary.label(token)) == (b"", SPECIAL)
        assert vocabulary.label_bytes(token) == SPECIAL.encode()


def test_words_are_joined_as_their_tokenizer_joins_them():
    tokenizer = words()
    tokens = tokenizer("the city is near")["input_ids"]
    assert TokenBytes(tokenizer).pieces(tokens) == ["the", " city", " is", " near"]
