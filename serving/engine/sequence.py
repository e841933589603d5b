"""Sequence: one generation while it runs, from the tokens drawn to the text that its reader sees."""

import logging
import random
import time
from collections.abc import Iterable
from dataclasses import replace

from registry.errors import InvalidInput
from serving.engine.base import FinishReason, Generation, GenerationOutcome, TokenEvent, TokenLogprob
from serving.engine.detokenizer import IncrementalDetokenizer
from serving.engine.grammar import Grammar
from serving.model.token_bytes import TokenBytes
from serving.steering.monitor import LowReadings, Reading, RunningReadings

logger = logging.getLogger(__name__)

Logprobs = tuple[float, list[tuple[int, float]]]
"""The log-probability of the token drawn, and the likeliest tokens with theirs, likeliest first."""


class Sequence:
    """A generation and its state. Every method belongs to the engine's thread."""

    def __init__(self, generation: Generation, vocabulary: TokenBytes, grammar: Grammar | None = None) -> None:
        self.generation, self.request = generation, generation.request
        self.sampling, self.prompt = self.request.sampling, self.request.prompt_tokens
        self.cached = 0
        """Tokens of prompt and answer that the model has read."""
        self.tokens: list[int] = []
        self.grammar = grammar
        self._readings: list[tuple[Reading, ...]] = []
        monitor = self.request.monitor
        self._running = RunningReadings(monitor.probes if monitor else ())
        self._low = LowReadings(monitor.stop, len(monitor.vectors)) if monitor and monitor.stop else None
        self._prompt_logprobs: list[Logprobs] = []
        self.began = time.monotonic()
        self._random = random.Random(self.sampling.seed)
        self._vocabulary = vocabulary
        self._detokenizer = IncrementalDetokenizer(vocabulary, self.prompt, self.sampling.stop)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def next_number(self) -> float:
        """The random number that the next token is drawn by."""
        return self._random.random()

    def accept(
        self, token: int, logprobs: Logprobs | None, ends: bool, full: bool, probed: tuple[float, ...] = ()
    ) -> FinishReason | None:
        """Take the token drawn, tell the reader, and say whether it was the last and why.

        ``ends`` says that it is the model's end of text, ``full`` that no further token has room; ``probed`` are the
        logits of the request's monitor at the hidden state that it was drawn from.
        """
        self.tokens.append(token)
        readings = self._running.add(probed) if probed else ()
        self._readings += [readings] if readings else []
        filtered = self._low is not None and self._low.add(readings)
        complete = self.grammar is not None and self.grammar.accept(token)
        text = self._detokenizer.flush() if ends else self._detokenizer.add(token)
        if complete and not ends and not self._detokenizer.stopped:
            text += self._detokenizer.flush()
        stopped = ends or complete or self._detokenizer.stopped
        full = full or len(self.tokens) >= self.sampling.max_tokens
        if (full or filtered) and not stopped:
            text += self._detokenizer.flush()
        self.generation.add(self._event(token, text, logprobs, readings, self._detokenizer.take_piece()))
        if stopped:
            return "stop"
        return "content_filter" if filtered else "length" if full else None

    def score_prompt(self, logprobs: Iterable[Logprobs]) -> None:
        """Take the log-probabilities of the prompt's next tokens, and tell the reader once all are there."""
        self._prompt_logprobs += logprobs
        if len(self._prompt_logprobs) == len(self.prompt) - 1:
            events = zip(self.prompt, self._vocabulary.pieces(self.prompt), (None, *self._prompt_logprobs), strict=True)
            self.generation.prompt = tuple(self._event(*event) for event in events)

    def finish(self, reason: FinishReason, error: str = "") -> None:
        self.generation.finish(self._outcome(reason, error))

    def _outcome(self, reason: FinishReason, error: str) -> GenerationOutcome:
        plain = outcome_of(self.generation, reason, self.cached, len(self.tokens), error)
        return replace(plain, readings=tuple(self._readings))

    def _event(
        self, token: int, text: str, logprobs: Logprobs | None, readings: tuple[Reading, ...] = (), piece: str = ""
    ) -> TokenEvent:
        if logprobs is None:
            return TokenEvent(token, text, readings=readings, piece=piece)
        own, likeliest = logprobs
        label, label_bytes = self._vocabulary.label, self._vocabulary.label_bytes
        top = tuple(TokenLogprob(other, label(other), value, label_bytes(other)) for other, value in likeliest)
        return TokenEvent(token, text, own, top, readings, piece)


def ending_of(error: Exception) -> tuple[FinishReason, str]:
    """The reason and the words with which one answer ends by what it raised, which is logged if it is a fault."""
    if isinstance(error, InvalidInput):
        return "refused", str(error)
    logger.error("a request failed", exc_info=error)
    return "error", f"the request failed ({type(error).__name__}); the service's log says why"


def outcome_of(
    generation: Generation, reason: FinishReason, cached: int = 0, generated: int = 0, error: str = ""
) -> GenerationOutcome:
    """How a generation ended, with ``cached`` tokens of prompt and answer run through the model."""
    prompt, plan = generation.request.prompt_tokens, generation.request.plan
    seen = min(cached, len(prompt))
    steered = plan.steers("prompt") * min(seen, len(prompt) - 1) + plan.steers("last_prompt") * (seen == len(prompt))
    return GenerationOutcome(reason, len(prompt), generated, steered, plan.steers("generation") * generated, error)
