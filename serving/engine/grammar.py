"""Grammar: the tokens that a JSON schema allows an answer to take next, by llguidance."""

import json
import threading
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from torch import Tensor

from registry.errors import InvalidInput


class SchemaRefused(InvalidInput):
    """A JSON schema that cannot be followed to the letter."""

    param = "response_format"


COMPACT: Any = {"whitespace_flexible": False}
"""Without it a small model can write spaces until its answer is full."""


class Grammar:
    """One answer on its way through a schema."""

    def __init__(self, matcher: LLMatcher) -> None:
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
    """Schemas compiled for one tokenizer, whose tables are made at first use, in about a second."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Iterable[int]) -> None:
        self._tokenizer, self._vocabulary, self._ends = tokenizer, vocabulary, sorted(ends)
        self._lock = threading.Lock()

    def compile(self, schema: Mapping[str, Any]) -> Grammar:
        """Raises ``SchemaRefused``."""
        with self._lock:
            tokens = self._tokens
        text = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=COMPACT)
        refused, messages = LLMatcher.validate_grammar_with_warnings(text, tokens)
        if refused or messages:
            reason = messages[0].split("\n")[0] if messages else "unknown"
            raise SchemaRefused(f"the JSON schema cannot be followed: {reason}")
        return Grammar(LLMatcher(tokens, text, log_level=0))

    @cached_property
    def _tokens(self) -> LLTokenizer:
        try:
            return from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=self._ends or None)
        except Exception as error:  # ValueError, or whatever Rust raises for a tokenizer that it does not know
            raise SchemaRefused(
                f"this model's tokenizer cannot be held to a JSON schema ({error}); leave `response_format` out"
            ) from error
