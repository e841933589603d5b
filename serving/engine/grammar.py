"""Grammar: the tokens that a JSON schema, or calls of functions, allow an answer to take next, by llguidance."""

import json
import threading
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from registry.errors import InvalidInput
from serving.engine.base import Sampling
from serving.engine.calls import Calls

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


class SchemaRefused(InvalidInput):
    """A JSON schema that cannot be followed to the letter."""


COMPACT: Any = {"whitespace_flexible": False}
"""Without it a small model can write spaces until its answer is full."""


class Grammar:
    """One answer on its way through a schema."""

    def __init__(self, matcher: "LLMatcher") -> None:
        self._matcher = matcher

    def mask(self, logits: Float[Tensor, " vocabulary"]) -> None:
        """Make the tokens that may not follow impossible, in place."""
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)
        logits[len(allowed) :] = -torch.inf
        logits[: len(allowed)].masked_fill_(allowed[: len(logits)].to(logits.device) == 0, -torch.inf)

    def accept(self, token: int) -> bool:
        """Take the token drawn; whether the answer is complete. Raises ``SchemaRefused`` where it cannot go on."""
        if not self._matcher.consume_token(token):
            raise SchemaRefused(f"the JSON schema cannot be followed: {self._matcher.get_error()[:200]}")
        return self._matcher.is_stopped()


class GrammarCompiler:
    """Schemas compiled for one tokenizer, whose tables are made at first use, in about a second.

    llguidance is imported then too: an engine whose answers follow no schema needs none of it.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Iterable[int]) -> None:
        self._tokenizer, self._vocabulary, self._ends = tokenizer, vocabulary, sorted(ends)
        self._lock = threading.Lock()

    def compile(self, sampling: Sampling) -> Grammar | None:
        """The grammar that an answer must follow, if there is one. Raises ``SchemaRefused``."""
        try:
            text = _grammar_of(sampling)
        except (ValueError, RecursionError) as error:  # of a schema that is nested too deep
            raise SchemaRefused(f"the JSON schema cannot be followed: {error}") from error
        return None if text is None else self._compiled(text)

    def _compiled(self, text: str) -> Grammar:
        from llguidance import LLMatcher

        with self._lock:
            tokens = self._tokens
        refused, messages = LLMatcher.validate_grammar_with_warnings(text, tokens)
        if refused or messages:
            reason = messages[0].split("\n")[0] if messages else "unknown"
            raise SchemaRefused(f"the JSON schema cannot be followed: {reason}")
        return Grammar(LLMatcher(tokens, text, log_level=0))

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


def _grammar_of(sampling: Sampling) -> str | None:
    """What an answer must follow, in a notation that llguidance reads."""
    if sampling.calls is not None:
        return _calls_grammar(sampling.calls)
    if sampling.schema is None:
        return None
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(json.dumps(sampling.schema), overrides=COMPACT)


def _calls_grammar(calls: Calls) -> str:
    """In Lark's notation, each schema with definitions of its own."""
    from llguidance import StructTag

    if calls.trigger:
        tags = [
            StructTag(trigger=calls.trigger, begin=frame.begin, grammar=_compact(frame.schema), end=frame.end)
            for frame in calls.frames
        ]
        return str(StructTag.to_grammar(tags, assume_special=False))
    alternatives = " | ".join(f"call_{number}" for number in range(len(calls.frames)))
    rules = [
        f"call_{number}: {json.dumps(frame.begin)} %json {json.dumps(_compact(frame.schema))} {json.dumps(frame.end)}"
        for number, frame in enumerate(calls.frames)
    ]
    return "\n".join(["%llguidance {}", f"start: {alternatives}", *rules])


def _compact(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "x-guidance": COMPACT}
