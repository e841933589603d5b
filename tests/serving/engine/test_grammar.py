"""Grammars: schemas that cannot be followed are refused, and those that come again are kept."""

import json

import numpy as np
import pytest

from serving.engine.base import Sampling
from serving.engine.calls import CallFrame, Calls
from serving.engine.grammar import ANSWERS, KEPT, LONGEST_KEPT, Grammar, GrammarCompiler, SchemaRefused, _reason
from tests.serving.model.tokenizers_of_each_kind import byte_level


def nested(depth):
    schema = {}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize("depth", [200, 100_000])
def test_a_schema_nested_too_deep_is_refused(depth):
    with pytest.raises(SchemaRefused, match="cannot be followed: .*recursion"):
        GrammarCompiler(None, 10, [0]).compile(Sampling(8, schema=nested(depth)))


def test_arguments_nested_too_deep_are_refused():
    calls = Calls((CallFrame("a", "<", nested(100_000), ">"),))
    with pytest.raises(SchemaRefused, match="cannot be followed: .*recursion"):
        GrammarCompiler(None, 10, [0]).compile(Sampling(8, calls=calls))


@pytest.mark.parametrize("circle", [{"$ref": "#/$defs/a"}, {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}])
def test_a_schema_that_no_text_fits_is_refused(circle):
    compiler = GrammarCompiler(byte_level(), 300, [0])
    with pytest.raises(SchemaRefused, match="no text fits it"):
        compiler.compile(Sampling(8, schema={"$defs": {"a": circle}, "$ref": "#/$defs/a"}))
    null = {"anyOf": [circle, {"type": "null"}]}
    assert compiler.compile(Sampling(8, schema={"$defs": {"a": null}, "$ref": "#/$defs/a"}))


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "integer", "multipleOf": 9_999_991, "minimum": 1}, "fuel exhausted when checking relevance"),
        ({"const": ["a"] * 100_000}, "it is too large"),
    ],
)
def test_a_schema_that_is_given_up_is_told_why(schema, reason):
    with pytest.raises(SchemaRefused, match=f"cannot be followed: {reason}"):
        GrammarCompiler(byte_level(), 300, [0]).compile(Sampling(8, schema=schema))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("regex parse error:\n    (\n    ^\nerror: unclosed group", "error: unclosed group"),
        ("Too many items\n<state>\nTokens: 1", "Too many items"),
        ("a" * 300, "a" * 200),
    ],
)
def test_a_reason_is_one_sentence(message, reason):
    assert _reason(message) == reason


SCHEMAS = [{"type": "object", "properties": {f"a{number}": {"type": "null"}}} for number in range(KEPT + 1)]


def written(grammar, tokenizer):
    """The shortest text that the grammar forces or allows, by its lowest token each time, up to eight tokens."""
    tokens = []
    while len(tokens) < 8 and (allowed := np.unpackbits(grammar.allowed(), bitorder="little")).any():
        tokens.append(int(allowed.argmax()))
        if grammar.accept(tokens[-1]):
            break
    return tokenizer.decode(tokens)


def test_an_answer_of_a_kept_grammar_begins_anew(monkeypatch):
    tokenizer = byte_level()
    compiler = GrammarCompiler(tokenizer, len(tokenizer), [0])
    made = []
    new = GrammarCompiler._new_matcher
    monkeypatch.setattr(GrammarCompiler, "_new_matcher", lambda self, text: made.append(text) or new(self, text))
    first, second = (compiler.compile(Sampling(8, schema=SCHEMAS[0])) for _ in range(2))
    text = written(first, tokenizer)
    assert text.startswith("{")
    assert written(second, tokenizer) == text
    assert written(compiler.compile(Sampling(8, schema=SCHEMAS[0])), tokenizer) == text
    assert len(made) == 1


def test_the_grammar_asked_for_longest_ago_is_dropped(monkeypatch):
    tokenizer, made = byte_level(), []
    compiler = GrammarCompiler(tokenizer, len(tokenizer), [0])
    new = GrammarCompiler._new_matcher
    monkeypatch.setattr(GrammarCompiler, "_new_matcher", lambda self, text: made.append(text) or new(self, text))
    for schema in (*SCHEMAS[:KEPT], SCHEMAS[0], SCHEMAS[KEPT]):
        compiler.compile(Sampling(8, schema=schema))
    assert len(made) == KEPT + 1
    compiler.compile(Sampling(8, schema=SCHEMAS[0]))
    assert len(made) == KEPT + 1
    compiler.compile(Sampling(8, schema=SCHEMAS[1]))
    assert len(made) == KEPT + 2


def test_a_grammar_is_made_anew_after_many_answers(monkeypatch):
    tokenizer, made = byte_level(), []
    compiler = GrammarCompiler(tokenizer, len(tokenizer), [0])
    new = GrammarCompiler._new_matcher
    monkeypatch.setattr(GrammarCompiler, "_new_matcher", lambda self, text: made.append(text) or new(self, text))
    for answer in range(2 * ANSWERS + 1):
        assert len(made) == -(-answer // ANSWERS)
        compiler.compile(Sampling(8, schema=SCHEMAS[0]))
    assert len(made) == 3


def test_long_grammars_are_not_kept():
    tokenizer = byte_level()
    compiler = GrammarCompiler(tokenizer, len(tokenizer), [0])
    compiler.compile(Sampling(8, schema={"enum": ["a" * LONGEST_KEPT]}))
    compiler.compile(Sampling(8, schema={"enum": ["a"]}))
    assert len(compiler._kept) == 1


def test_schemas_that_differ_in_order_alone_are_two():
    """The order of its properties is that in which they are written."""
    tokenizer = byte_level()
    compiler = GrammarCompiler(tokenizer, len(tokenizer), [0])
    texts = []
    for names in ("ab", "ba"):
        schema = {"type": "object", "properties": {name: {"type": "null"} for name in names}, "required": [*names]}
        texts.append(written(compiler.compile(Sampling(8, schema=schema)), tokenizer))
    assert texts[0] != texts[1]


ARGUMENTS = {"type": "object", "properties": {"n": {"enum": [1, 22]}, "m": {"type": "null"}}, "required": ["n", "m"]}
CALLS = Calls((CallFrame("a", "<a:", ARGUMENTS, ">"), CallFrame("b", "<b:", {"enum": ["x"]}, ">")))


IN_TEXT = Calls(CALLS.frames, trigger="<")
GIVEN = [({"schema": ARGUMENTS}, [0]), ({"schema": {}}, [0]), ({"calls": CALLS}, [0]), ({"calls": IN_TEXT}, [0, 260])]


@pytest.mark.parametrize(("given", "ends"), GIVEN)
def test_an_engine_with_llguidance_itself_allows_the_same(given, ends):
    """As vLLM compiles what it is told, with spaces between values by default."""
    from llguidance import LLMatcher, grammar_from
    from llguidance.hf import from_tokenizer

    tokenizer, sampling = byte_level(), Sampling(8, **given)
    compiler = GrammarCompiler(tokenizer, len(tokenizer), ends)
    ((kind, told),) = compiler.specification(sampling).items()
    if kind == "json":
        text = LLMatcher.grammar_from_json_schema(json.dumps(told), defaults={"whitespace_flexible": True})
    else:
        text = grammar_from("grammar", told)
    other = Grammar(LLMatcher(from_tokenizer(tokenizer, n_vocab=len(tokenizer)), text, log_level=0))
    grammar, generator = compiler.compile(sampling), np.random.default_rng(0)
    for _ in range(40):
        np.testing.assert_array_equal(grammar.allowed(), other.allowed())
        token = int(generator.choice(np.flatnonzero(np.unpackbits(grammar.allowed(), bitorder="little"))))
        complete = grammar.accept(token)
        assert other.accept(token) == complete
        if complete:
            break


def test_free_text_is_told_no_grammar():
    assert GrammarCompiler(byte_level(), 10, [0]).specification(Sampling(8)) == {}
