"""Text as it streams, for tokenizers of every kind: whole characters, stop texts, and no difference to the whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.detokenizer import IncrementalDetokenizer
from serving.model.token_bytes import TokenBytes
from tests.serving.model.tokenizers_of_each_kind import BYTES, SPECIAL

MADE = {name: make() for name, make in BYTES.items()}


def streamed(tokenizer, tokens, stop=(), prompt=()):
    detokenizer = IncrementalDetokenizer(TokenBytes(tokenizer), prompt, stop)
    pieces = []
    for token in tokens:
        pieces.append(detokenizer.add(token))
        if detokenizer.stopped:
            return pieces
    return [*pieces, detokenizer.flush()]


@pytest.mark.parametrize("kind", BYTES)
@given(data=st.data())
@settings(deadline=None)
def test_streamed_text_is_the_bytes_of_all_tokens(kind, data):
    tokenizer = MADE[kind]
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=30))
    content = b"".join(map(TokenBytes(tokenizer).of, tokens))
    assert "".join(streamed(tokenizer, tokens)) == content.decode(errors="replace")


@pytest.mark.parametrize("kind", BYTES)
@given(data=st.data())
@settings(deadline=None)
def test_pieces_are_those_of_the_whole_text(kind, data):
    """Of an answer behind a prompt, whose first word keeps its space."""
    tokenizer, vocabulary = MADE[kind], TokenBytes(MADE[kind])
    prompt = tokenizer("the", add_special_tokens=False)["input_ids"]
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=30))
    stop = data.draw(st.sampled_from([(), ("漢", "a")]))
    detokenizer, pieces = IncrementalDetokenizer(vocabulary, prompt, stop), []
    for token in tokens:
        detokenizer.add(token)
        pieces.append(detokenizer.take_piece())
        if detokenizer.stopped:
            break
    detokenizer.flush()
    pieces[-1] += detokenizer.take_piece()
    assert pieces == vocabulary.pieces([*prompt, *tokens[: len(pieces)]])[len(prompt) :]


@pytest.mark.parametrize("kind", BYTES)
def test_no_window_cuts_a_character_of_a_long_run(kind):
    tokenizer = MADE[kind]
    prompt = tokenizer("the city is 😀")["input_ids"]
    tokens = tokenizer("😀" * 20, add_special_tokens=False)["input_ids"]
    assert "".join(streamed(tokenizer, tokens, prompt=prompt)).strip() == "😀" * 20


@pytest.mark.parametrize("kind", BYTES)
def test_runs_of_invalid_bytes_are_shown_as_they_come(kind):
    tokenizer, vocabulary = MADE[kind], TokenBytes(MADE[kind])
    (lone,) = [token for token in range(len(tokenizer)) if vocabulary.of(token) == b"\xff"]
    smile = [token for token in tokenizer("😀", add_special_tokens=False)["input_ids"] if vocabulary.of(token) != b" "]
    pieces = streamed(tokenizer, [*smile, lone, lone, *smile])
    assert "".join(pieces) == "😀\ufffd\ufffd😀"
    assert [piece for piece in pieces if piece][1] == "\ufffd"


@pytest.mark.parametrize("kind", BYTES)
@given(data=st.data())
@settings(deadline=None)
def test_a_stop_text_cuts_where_it_first_stands(kind, data):
    tokenizer = MADE[kind]
    text = data.draw(st.text(st.sampled_from("ab漢😀"), min_size=1, max_size=12))
    stop = data.draw(st.text(st.sampled_from("ab漢😀"), min_size=1, max_size=3))
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = "".join(streamed(tokenizer, tokens))
    assert "".join(streamed(tokenizer, tokens, (stop,))) == whole.partition(stop)[0]


def test_special_tokens_stop_by_name_and_are_no_text():
    for tokenizer in MADE.values():
        special = tokenizer.convert_tokens_to_ids(SPECIAL)
        tokens = [*tokenizer("the", add_special_tokens=False)["input_ids"], special]
        tokens += tokenizer("a", add_special_tokens=False)["input_ids"]
        assert "".join(streamed(tokenizer, tokens, (SPECIAL,))).strip() == "the"
        assert SPECIAL not in "".join(streamed(tokenizer, tokens))


def test_a_prompt_that_ends_within_a_character_is_completed():
    for tokenizer in MADE.values():
        tokens = tokenizer("a😀", add_special_tokens=False)["input_ids"]
        assert "".join(streamed(tokenizer, tokens[-2:], prompt=tokens[:-2])) == "😀"


STOPS = (
    SPECIAL,
    f"{SPECIAL}a",
    f"a{SPECIAL}",
    f"b{SPECIAL}a",
    f"{SPECIAL}{SPECIAL}b",
    "start|>a",
    "a<|im",
    "ab",
    "a漢",
)


def cut(tokenizer, tokens, stops):
    """The text before the first stop text, found anew after each token in the text with names and without."""
    vocabulary, text, named = TokenBytes(tokenizer), "", []
    for token in tokens:
        piece = vocabulary.of(token).decode()
        named += [(letter, len(text) + place) for place, letter in enumerate(piece)]
        named += [(letter, len(text)) for letter in vocabulary.label(token) if not piece]
        text += piece
        letters = "".join(letter for letter, _ in named)
        places = [text.find(stop) for stop in stops if stop in text]
        places += [named[letters.find(stop)][1] for stop in stops if stop in letters]
        if places:
            return text[: min(places)]
    return text


@pytest.mark.parametrize("kind", BYTES)
@given(data=st.data())
@settings(deadline=None)
def test_a_stop_text_may_straddle_special_tokens(kind, data):
    tokenizer = MADE[kind]
    letters = {letter: tokenizer(letter, add_special_tokens=False)["input_ids"][-1] for letter in "ab"}
    drawn = data.draw(st.lists(st.sampled_from(["a", "b", SPECIAL]), max_size=12))
    tokens = [letters.get(name, tokenizer.convert_tokens_to_ids(SPECIAL)) for name in drawn]
    stops = data.draw(st.lists(st.sampled_from(STOPS), min_size=1, max_size=3, unique=True))
    assert "".join(streamed(tokenizer, tokens, stops)) == cut(tokenizer, tokens, stops)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
@pytest.mark.parametrize("kind", BYTES)
def test_each_special_token_parts_what_surrounds_it(kind, count):
    tokenizer = MADE[kind]
    letters = {letter: tokenizer(letter, add_special_tokens=False)["input_ids"][-1] for letter in "ab"}
    tokens = [letters["b"], *[tokenizer.convert_tokens_to_ids(SPECIAL)] * count, letters["a"]]
    assert "".join(streamed(tokenizer, tokens, [f"b{SPECIAL}a"])) == ("" if count == 1 else "ba")


@pytest.mark.parametrize("kind", BYTES)
def test_nothing_is_held_back_for_names_without_need(kind):
    tokenizer = MADE[kind]
    special, (letter,) = (
        tokenizer.convert_tokens_to_ids(SPECIAL),
        tokenizer("x", add_special_tokens=False)["input_ids"][-1:],
    )
    detokenizer = IncrementalDetokenizer(TokenBytes(tokenizer), (), (f"{SPECIAL}user",))
    assert [detokenizer.add(token) for token in (letter, special, letter, letter)] == ["x", "", "x", "x"]


def test_half_a_character_before_a_stopping_token_is_shown():
    tokenizer = MADE["byte-level"]
    (lone,) = [token for token in range(len(tokenizer)) if TokenBytes(tokenizer).of(token) == b"\xf0"]
    tokens = [lone, tokenizer.convert_tokens_to_ids(SPECIAL)]
    assert "".join(streamed(tokenizer, tokens, (SPECIAL,))) == "\ufffd"
