"""Prompts: texts that are far too long for the window are refused by their beginning, and no others."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.api.errors import ApiError, ContextExceeded
from serving.api.openai import prompts
from serving.api.openai.prompts import READ_FIRST, chat_tokens
from serving.api.openai.requests import Message
from serving.model.token_bytes import TokenBytes
from tests.mutants import mutant
from tests.serving.model.tokenizers_of_each_kind import BYTES, byte_level, words

WINDOW = 16
MOST = 2 * READ_FIRST * WINDOW
"""Characters of a text that is read whole, whatever it is."""


@pytest.fixture
def read(monkeypatch):
    """The lengths of the texts that are made tokens."""
    lengths = []
    of_text = prompts.text_tokens

    def noting(tokenizer, text, **options):
        lengths.append(len(text))
        return of_text(tokenizer, text, **options)

    monkeypatch.setattr(prompts, "text_tokens", noting)
    return lengths


def tokens(tokenizer, text, module=prompts):
    return module.tokens_of(SimpleNamespace(tokenizer=tokenizer), text, WINDOW)


def refusals(module=prompts):
    """Of a long text of few tokens, and of one of many."""
    refused = []
    for tokenizer, text in ((words(), f"the city{' ' * 10_000}"), (byte_level(), "a" * 10_000)):
        try:
            tokens(tokenizer, text, module)
        except ContextExceeded:
            refused.append(True)
        else:
            refused.append(False)
    return refused


def test_a_text_far_too_long_is_read_in_part(read):
    words = f"maximum context length is {WINDOW} tokens.* your prompt has at least {READ_FIRST * WINDOW // 2} tokens"
    with pytest.raises(ContextExceeded, match=words) as raised:
        tokens(byte_level(), "a" * 100_000)
    assert raised.value.param == "prompt"
    assert read == [READ_FIRST * WINDOW]


def test_a_text_a_little_too_long_is_counted(read):
    assert len(tokens(byte_level(), "a" * MOST)) == MOST
    assert read == [MOST]


def test_a_long_text_of_few_tokens_is_read_whole(read):
    text = f"the city{' ' * 100_000}is near"
    assert tokens(words(), text) == tuple(words()(text)["input_ids"])
    assert read == [READ_FIRST * WINDOW, len(text)]


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [("fewest >= 2 * window", "fewest >= 1"), ("2 * len(beginning)", "200 * len(beginning)")],
)
def test_a_changed_rule_of_refusal_is_seen(passage, replacement):
    assert refusals() == [False, True]
    with mutant(prompts, passage, replacement) as changed:
        assert refusals(changed) != [False, True]


MADE = {name: make() for name, make in BYTES.items()}


@pytest.mark.parametrize("kind", BYTES)
@given(text=st.text(st.sampled_from("abc the 漢字😀\n"), min_size=1, max_size=12))
@settings(deadline=None)
def test_the_tokens_of_an_answer_add_nothing_to_its_text(kind, text):
    model, vocabulary = SimpleNamespace(tokenizer=MADE[kind]), TokenBytes(MADE[kind])
    tokens = prompts.answer_tokens(model, text, WINDOW, "input")
    assert b"".join(map(vocabulary.of, tokens)).decode() == text


def test_an_answer_without_text_is_refused():
    with pytest.raises(ApiError, match="`input.1` is empty"):
        prompts.answer_tokens(SimpleNamespace(tokenizer=byte_level()), "", WINDOW, "input.1")


@pytest.mark.parametrize(
    ("text", "is_answered", "error", "words"),
    [
        ("", False, ApiError, "makes no text of these messages"),
        ("a" * WINDOW, True, ContextExceeded, "one of them for the answer"),
        ("a" * (WINDOW + 1), False, ContextExceeded, f"your text has {WINDOW + 1} tokens"),
    ],
)
def test_a_conversation_has_text_and_fits(monkeypatch, text, is_answered, error, words):
    model = SimpleNamespace(tokenizer=byte_level())
    model.tokenizer.chat_template = "{{ messages }}"
    monkeypatch.setattr(prompts.CHAT_TEMPLATES, "render", lambda *_: text)
    messages = [Message(role="user", content="a")]
    with pytest.raises(error, match=words) as raised:
        chat_tokens(model, messages, WINDOW, is_answered=is_answered)
    assert raised.value.param == "messages"
    monkeypatch.setattr(prompts.CHAT_TEMPLATES, "render", lambda *_: "a" * WINDOW)
    assert len(chat_tokens(model, messages, WINDOW, is_answered=False)) == WINDOW


@pytest.mark.parametrize("way", ["`prompt` to /v1/completions", "or /v1/steering/compare", "`input` to /v1/probe"])
def test_a_model_without_template_says_which_routes_take_texts(monkeypatch, way):
    monkeypatch.setattr(prompts, "has_chat", lambda _: False)
    model = SimpleNamespace(checkpoint=SimpleNamespace(model="mini"))
    with pytest.raises(ApiError, match=f"^mini has no chat template, .*{way}") as refused:
        chat_tokens(model, [Message(role="user", content="a")], WINDOW, is_answered=True)
    assert refused.value.param == "messages"
