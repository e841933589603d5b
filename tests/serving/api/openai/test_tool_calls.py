"""Calls within text: what the grammar lets a model write, and how an answer is read as it comes."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from registry.checkpoints import Checkpoint
from serving.api.errors import ApiError
from serving.api.openai import completions
from serving.api.openai.prompts import chat_tokens
from serving.api.openai.requests import ChatRequest
from serving.api.openai.tool_calls import CallReader, allowed_calls
from serving.engine.base import Sampling
from serving.engine.grammar import GrammarCompiler
from serving.engine.slots.sampling import masked
from serving.model.language_model import load

HERMES = (
    "{% if tools %}Tools: {{ tools | tojson }} {% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}{% endfor %}"
)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
ADD = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a":4}}\n</tool_call>'
SECOND = CALL.replace("4", "52")


@pytest.fixture(scope="module")
def model(chat_model):
    made = load(
        Checkpoint("mini", str(next(Path(chat_model).iterdir())), "main", 10), precision="float32", device="cpu"
    )
    made.tokenizer.chat_template = HERMES
    return made


def request(**fields):
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": "4?"}], "tools": [ADD], **fields})


@pytest.fixture(scope="module")
def calls(model):
    return allowed_calls(model, request().offered_tools, "auto")


def follows(model, calls, text):
    """Whether a model under the grammar may write ``text`` and end."""
    tokens = [*model.tokenizer(text)["input_ids"], 0]
    vocabulary = len(model.tokenizer)
    grammar = GrammarCompiler(model.tokenizer, vocabulary, [0]).compile(Sampling(99, calls=calls))
    for token in tokens:
        (logits,) = masked(torch.zeros(1, vocabulary), [grammar.allowed()])
        if logits[token] == -torch.inf:
            return False
        grammar.accept(token)
    return True


@pytest.mark.parametrize(
    "text", ["I cannot.", "", CALL, f"Let me see. {CALL}", f"{CALL}\n{SECOND}", f"1 < 2 {CALL} so"]
)
def test_a_model_may_answer_by_text_or_call(model, calls, text):
    assert follows(model, calls, text)


@pytest.mark.parametrize(
    "text",
    [CALL.replace('"a"', '"b"'), CALL.replace("4", '"4"'), CALL.replace("add", "sub"), CALL[:-3], f"x {CALL[:20]}"],
)
def test_a_call_once_begun_follows_its_schema(model, calls, text):
    assert not follows(model, calls, text)


@pytest.fixture(scope="module")
def named(chat_model):
    """A model as Qwen's are: the tags of calls, and those of thoughts, are tokens of their own, and text."""
    made = load(
        Checkpoint("mini", str(next(Path(chat_model).iterdir())), "main", 10), precision="float32", device="cpu"
    )
    made.tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<think>", "</think>"])
    made.tokenizer.chat_template = HERMES
    return made


@pytest.mark.parametrize("text", ["I cannot.", CALL, f"<think>Let me see.</think>{CALL}\n{SECOND} <think>so"])
def test_tags_may_be_tokens_of_their_own(named, text):
    calls = allowed_calls(named, request().offered_tools, "auto")
    assert follows(named, calls, text)
    assert not follows(named, calls, text + CALL.replace("add", "sub"))


@pytest.mark.parametrize(
    ("parameters", "may_be_given"),
    [
        (None, False),
        ({"type": "object", "properties": {}}, False),
        ({"type": "object", "properties": {}, "additionalProperties": True}, True),
        ({"type": "object", "properties": {}, "patternProperties": {"^b": {}}}, True),
        ({"type": "object", "properties": {}, "required": ["b"]}, True),
        ({"type": "object"}, True),
    ],
)
def test_arguments_that_nobody_named_are_not_given(model, parameters, may_be_given):
    tools = request(tools=[{"type": "function", "function": {"name": "add", "parameters": parameters}}]).offered_tools
    text = '{"name": "add", "arguments": {"b":1}}'
    assert follows(model, allowed_calls(model, tools, "required"), text) is may_be_given


@pytest.mark.parametrize(
    ("text", "content", "arguments"),
    [
        ("plain < text <tool", "plain < text <tool", []),
        (CALL, "", ['{"a":4}']),
        (f"Let me see. {CALL}\n{SECOND}", "Let me see. ", ['{"a":4}', '{"a":52}']),
        (f"a {CALL} b", "a  b", ['{"a":4}']),
        (CALL[:30], CALL[:30], []),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 7, 500])
def test_an_answer_is_read_alike_however_it_comes(calls, text, content, arguments, size):
    reader = CallReader(calls)
    shown = "".join(reader.add(text[begin : begin + size]) for begin in range(0, len(text), size))
    rest, made = reader.finish()
    assert "<tool_call>" not in shown and content.startswith(shown)
    assert shown + rest == content
    assert [call["function"] for call in made] == [{"name": "add", "arguments": given} for given in arguments]


def test_the_template_is_given_tools_and_earlier_calls(model):
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 4}'}}
    history = [{"role": "user", "content": "4?"}, {"role": "assistant", "tool_calls": [call]}]
    history.append({"role": "tool", "tool_call_id": "call_1", "content": "8"})
    body = request(messages=history)
    text = model.tokenizer.decode(chat_tokens(model, body.messages, 512, body.offered_tools, is_answered=True))
    assert text.startswith('Tools: [{"type": "function", "function": {"name": "add"')
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 4}}\n</tool_call><tool>8' in text
    assert "Tools" not in model.tokenizer.decode(chat_tokens(model, body.messages[:1], 512, is_answered=True))


def test_a_template_without_tools_hears_of_them_in_words(model):
    model.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    try:
        body = request(tool_choice="required")
        text = model.tokenizer.decode(chat_tokens(model, body.messages, 512, body.offered_tools, is_answered=True))
        with pytest.raises(ApiError, match="send `tool_choice` required") as raised:
            allowed_calls(model, body.offered_tools, "auto")
    finally:
        model.tokenizer.chat_template = HERMES
    assert raised.value.param == "tool_choice"
    head, _, described = text.partition("\n")
    assert head.startswith("<system>To call one of these functions")
    assert json.loads(described.removesuffix("<user>4?"))["name"] == "add"


@pytest.mark.parametrize("kind", ["model", "named"])
def test_an_answer_without_parallel_calls_makes_one(kind, model, named):
    made = {"model": model, "named": named}[kind]
    calls = allowed_calls(made, request().offered_tools, "auto", at_most_one=True)
    for text in ("I cannot.", CALL, f"Let me see. {CALL}"):
        assert follows(made, calls, text)
    for text in (f"{CALL}\n{SECOND}", CALL + SECOND):
        assert not follows(made, calls, text)


@pytest.mark.parametrize(("given", "most"), [(False, True), (True, False), (None, False)])
def test_a_request_says_whether_calls_are_parallel(named, given, most):
    calls = completions._calls(SimpleNamespace(model=named), request(parallel_tool_calls=given))
    assert calls.at_most_one is most
