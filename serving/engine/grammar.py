"""Grammar: the tokens that a JSON schema, or calls of functions, allow an answer to take next, by llguidance."""

import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from registry.errors import InvalidInput
from serving.engine.base import Sampling
from serving.engine.calls import Calls
from serving.engine.schemas import MOST_LEVELS, endless_part, levels

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


class SchemaRefused(InvalidInput):
    """A JSON schema that cannot be followed to the letter."""


NAME = re.compile(r"<[^<>\s]+>")
COMPACT: Any = {"whitespace_flexible": False}
"""Without it a small model can write spaces until its answer is full."""
KEPT, LONGEST_KEPT = 8, 10_000
"""Grammars that are kept for answers to come, and how many characters one may have: clients send the same few again."""
ANSWERS = 32
"""That one is kept for: the answers of one share the states of its lexer, which grow with what is written."""


class Grammar:
    """One answer on its way through a schema."""

    def __init__(self, matcher: "LLMatcher") -> None:
        self._matcher = matcher

    def allowed(self) -> UInt8[np.ndarray, " bytes"]:
        """The tokens that may follow: a bit for each, the lowest of a byte first."""
        return np.frombuffer(self._matcher.compute_bitmask(), np.uint8)

    def accept(self, token: int) -> bool:
        """Take the token drawn; whether the answer is complete. Raises ``SchemaRefused`` where it cannot go on."""
        if not self._matcher.consume_token(token):
            raise SchemaRefused(f"the JSON schema cannot be followed: {_reason(self._matcher.get_error())}")
        return self._matcher.is_stopped()


class GrammarCompiler:
    """Schemas compiled for one tokenizer, whose tables are made at first use, in about a second.

    llguidance is imported then too: an engine whose answers follow no schema needs none of it.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Iterable[int]) -> None:
        self._tokenizer, self._vocabulary, self._ends = tokenizer, vocabulary, sorted(ends)
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[LLMatcher, int]] = {}
        """By grammar, a matcher that has taken no token, and its answers; the one asked for last stands last."""

    def compile(self, sampling: Sampling) -> Grammar | None:
        """The grammar that an answer must follow, if there is one. Raises ``SchemaRefused``."""
        try:
            text = _grammar_of(sampling, self._names)
        except (ValueError, RecursionError) as error:  # of a schema that is nested too deep
            raise SchemaRefused(f"the JSON schema cannot be followed: {error}") from error
        return None if text is None else self._compiled(text, sampling)

    def specification(self, sampling: Sampling) -> dict[str, Any]:
        """The same for an engine that has llguidance itself: a schema, or calls in Lark's notation.

        Such an engine knows the tokenizer's own end of text alone; further ones stand in the grammar.
        """
        if sampling.calls is not None:
            ends = [token for token in self._ends if token != self._tokenizer.eos_token_id]
            return {"grammar": _calls_grammar(sampling.calls, self._names, ends)}
        return {} if sampling.schema is None else {"json": _compact(sampling.schema)}

    def _compiled(self, text: str, sampling: Sampling) -> Grammar:
        with self._lock:
            matcher, answers = self._kept.pop(text, (None, 0))
        if matcher is None:
            _require_followable(sampling)
            matcher = self._new_matcher(text)
        if len(text) <= LONGEST_KEPT and answers + 1 < ANSWERS:
            with self._lock:
                self._kept[text] = matcher, answers + 1
                for oldest in list(self._kept)[:-KEPT]:
                    del self._kept[oldest]
        return Grammar(matcher.deep_copy())

    def _new_matcher(self, text: str) -> "LLMatcher":
        from llguidance import LLMatcher

        with self._lock:
            tokens = self._tokens
        refused, messages = LLMatcher.validate_grammar_with_warnings(text, tokens)
        if refused or messages:
            raise SchemaRefused(
                f"the JSON schema cannot be followed: {_reason(messages[0] if messages else 'unknown')}"
            )
        matcher = LLMatcher(tokens, text, log_level=0)
        if not matcher.is_accepting():
            first = matcher.deep_copy()
            first.compute_bitmask()  # whether any token may come first is known once they were looked for
            if first.is_stopped():
                raise SchemaRefused(f"the JSON schema cannot be followed: {_why_none_begins(first.get_error())}")
        return matcher

    @cached_property
    def _names(self) -> frozenset[str]:
        """Tokens such as <tool_call>, which llguidance takes for no text although they are some."""
        added = getattr(self._tokenizer, "added_tokens_decoder", {}).values()
        return frozenset(entry.content for entry in added if not entry.special and NAME.fullmatch(entry.content))

    @cached_property
    def _tokens(self) -> "LLTokenizer":
        from llguidance.hf import from_tokenizer

        try:
            return from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=self._ends or None)
        except Exception as error:  # ValueError, or whatever Rust raises for a tokenizer that it does not know
            raise SchemaRefused(
                f"this model's tokenizer cannot be held to a JSON schema ({error}); leave `response_format` and "
                "`tools` out"
            ) from error


def _require_followable(sampling: Sampling) -> None:
    """Raise ``SchemaRefused`` where a schema has no text that ends, or overflows the stack of who compiles it."""
    schemas = [frame.schema for frame in sampling.calls.frames] if sampling.calls is not None else [sampling.schema]
    deepest = max(map(levels, schemas))
    if deepest > MOST_LEVELS:
        raise SchemaRefused(
            f"the JSON schema cannot be followed: its definitions lead {deepest} levels into each other, and may "
            f"{MOST_LEVELS}; send a flatter one"
        )
    place = next(filter(None, map(endless_part, schemas)), None)
    if place is not None:
        raise SchemaRefused(
            f"the JSON schema cannot be followed: no text fits it, as `{place[:200]}` needs itself without end; do not "
            "require it, or allow null in its place"
        )


def _why_none_begins(message: str) -> str:
    """By llguidance's message, which is of its own trouble where it gave up."""
    if not message or message.startswith("NoExtension"):
        return "no text fits it; look for definitions in a circle"
    return "it is too large" if message.startswith("panic") else _reason(message)


def _reason(message: str) -> str:
    """The sentence of llguidance's message: its first line, or the last where that only says what kind it is."""
    lines = message.partition("<state>")[0].strip().splitlines()
    return (lines[-1] if lines[0].endswith(":") else lines[0])[:200]


def _grammar_of(sampling: Sampling, names: frozenset[str]) -> str | None:
    """What an answer must follow, in a notation that llguidance reads."""
    if sampling.calls is not None:
        return _calls_grammar(sampling.calls, names)
    if sampling.schema is None:
        return None
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(json.dumps(sampling.schema), overrides=COMPACT)


def _calls_grammar(calls: Calls, names: frozenset[str], ends: Sequence[int] = ()) -> str:
    """In Lark's notation, each schema with definitions of its own. Text before a call ends where its trigger stands.

    ``ends`` are tokens that may end the text after the last call.
    """
    numbers = range(len(calls.frames))
    lines = ["%llguidance {}"]
    if calls.trigger:
        head = ["written", *([f"TEXT {calls.trigger}"] if calls.trigger in names else [])]
        others = sorted(names - {calls.trigger})
        named = f"(TEXT ({' | '.join(others)}))*" if others else ""
        end = f"(<[{','.join(map(str, ends))}]>)?" if ends else ""
        start = "call |" if calls.at_most_one else "call*"
        lines += [f"start: {start} {named} TEXT {end}", r"TEXT: /(.|\n)*/"]
        lines += [f"written[lazy]: TEXT {json.dumps(calls.trigger)}"]
        lines += [f"call: {named} ({' | '.join(head)}) ({_alternatives(numbers)})"]
    else:
        lines += [f"start: {_alternatives(numbers)}"]
    for number, frame in zip(numbers, calls.frames, strict=True):
        begin, end = _as_lark(frame.begin[len(calls.trigger) :], names), _as_lark(frame.end, names)
        lines += [f"call_{number}: {begin} %json {json.dumps(_compact(frame.schema))} {end}"]
    return "\n".join(lines)


def _alternatives(numbers: Iterable[int]) -> str:
    return " | ".join(f"call_{number}" for number in numbers)


def _as_lark(text: str, names: frozenset[str]) -> str:
    """A text in which names of tokens may be written by these tokens too."""
    parts = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
    return " ".join(f"({json.dumps(part)} | {part})" if part in names else json.dumps(part) for part in parts if part)


def _compact(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "x-guidance": COMPACT}
