"""Responses of OpenAI's routes, whole and in chunks, and their models for the OpenAPI document.

Routes build plain dictionaries, which is faster than models.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from serving.api.openai.tool_calls import CallReader
from serving.api.openai.usage import Usage, usage
from serving.api.steering.block import SteeringInfo
from serving.engine.base import Completion, GenerationOutcome, TokenEvent
from serving.engine.calls import Calls
from serving.model.language_model import LanguageModel

Json = dict[str, Any]


class AnswerFormat(Protocol):
    """How either of OpenAI's routes writes answers."""

    prefix: str
    whole: str
    """``object`` of a whole answer."""
    chunk: str
    """``object`` of a chunk."""

    def choice(self, model: LanguageModel, completion: Completion) -> Json:
        """With ``finish_reason``."""

    def opening(self, model: LanguageModel, prompt: Sequence[TokenEvent]) -> Json | None:
        """The chunk of a choice before its first token, if there is one."""

    def piece(self, model: LanguageModel, event: TokenEvent, offset: int) -> Json:
        """The chunk of one token, whose text begins at ``offset`` of the answer."""

    def ending(self) -> Json: ...

    def reader(self) -> CallReader | None:
        """A reader of one answer, where answers may call tools."""


@dataclass(frozen=True)
class ChatFormat:
    tools: Calls | None = None
    prefix = "chatcmpl"
    whole = "chat.completion"
    chunk = "chat.completion.chunk"

    def choice(self, model: LanguageModel, completion: Completion) -> Json:
        message: Json = {"role": "assistant", "content": completion.text, "refusal": None}
        reason: str = completion.outcome.reason
        reader = self.reader()
        if reader is not None:
            shown = reader.add(completion.text)
            rest, calls = reader.finish()
            message["content"] = (shown + rest) or None
            if calls:
                message["tool_calls"] = calls
                reason = "tool_calls" if reason == "stop" else reason
        return {"message": message, "logprobs": self._logprobs(model, completion.events), "finish_reason": reason}

    def reader(self) -> CallReader | None:
        return None if self.tools is None else CallReader(self.tools)

    def opening(self, model: LanguageModel, prompt: Sequence[TokenEvent]) -> Json | None:  # noqa: ARG002
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None}

    def piece(self, model: LanguageModel, event: TokenEvent, offset: int) -> Json:  # noqa: ARG002
        return {"delta": {"content": event.text}, "logprobs": self._logprobs(model, [event])}

    def ending(self) -> Json:
        return {"delta": {}, "logprobs": None}

    def _logprobs(self, model: LanguageModel, events: Sequence[TokenEvent]) -> Json | None:
        if not events or events[0].logprob is None:
            return None
        return {"content": [self._token(model, event) for event in events], "refusal": None}

    def _token(self, model: LanguageModel, event: TokenEvent) -> Json:
        top = [_token_info(model, likely.token, likely.logprob) for likely in event.top]
        return {**_token_info(model, event.token, event.logprob), "top_logprobs": top}


LEAST_LOGPROB = -9999.0
"""In place of minus infinity, which JSON cannot write; vLLM's number."""


@dataclass(frozen=True)
class TextFormat:
    """Completions. Where the prompt's tokens are there, the answer begins with them (``echo``)."""

    with_logprobs: bool
    prefix = "cmpl"
    whole = chunk = "text_completion"

    def choice(self, model: LanguageModel, completion: Completion) -> Json:
        events = (*completion.prompt, *completion.events)
        text = "".join(event.text for event in completion.prompt) + completion.text
        logprobs = self._logprobs(model, events, 0)
        return {"text": text, "logprobs": logprobs, "finish_reason": completion.outcome.reason}

    def reader(self) -> CallReader | None:
        return None

    def opening(self, model: LanguageModel, prompt: Sequence[TokenEvent]) -> Json | None:
        if not prompt:
            return None
        text = "".join(event.text for event in prompt)
        return {"text": text, "logprobs": self._logprobs(model, prompt, 0)}

    def piece(self, model: LanguageModel, event: TokenEvent, offset: int) -> Json:
        return {"text": event.text, "logprobs": self._logprobs(model, [event], offset)}

    def ending(self) -> Json:
        return {"text": "", "logprobs": None}

    def _logprobs(self, model: LanguageModel, events: Sequence[TokenEvent], length: int) -> Json | None:
        if not self.with_logprobs:
            return None
        offsets = []
        for event in events:
            offsets.append(length)
            length += len(event.text)
        return {
            "tokens": [model.token_bytes.label(event.token) for event in events],
            "token_logprobs": [_written(event.logprob) for event in events],
            "top_logprobs": [None if event.logprob is None else _likeliest(event) for event in events],
            "text_offset": offsets,
        }


def _written(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, LEAST_LOGPROB)


def _likeliest(event: TokenEvent) -> dict[str, float | None]:
    """The likeliest tokens by their text; of tokens with one text, the likeliest."""
    likeliest: dict[str, float | None] = {}
    for token in event.top:
        likeliest.setdefault(token.text, _written(token.logprob))
    return likeliest


def _token_info(model: LanguageModel, token: int, logprob: float | None) -> Json:
    vocabulary = model.token_bytes
    return {
        "token": vocabulary.label(token),
        "logprob": _written(logprob),
        "bytes": list(vocabulary.label_bytes(token)),
    }


def token_readings(dimensions: Sequence[str], events: Sequence[TokenEvent]) -> Json:
    """The ``readings`` of these tokens by the probes of these dimensions; nothing without a monitor."""
    if not dimensions:
        return {}
    readings = [
        {
            "text": event.piece,
            "scores": {
                name: None if score is None else round(score, 6)
                for name, score in zip(dimensions, event.readings, strict=True)
            },
        }
        for event in events
    ]
    return {"readings": readings}


@dataclass(frozen=True)
class Envelope:
    """The fields that every object of one answer repeats."""

    format: AnswerFormat
    model: LanguageModel
    fingerprint: str
    """OpenAI's ``system_fingerprint``: of weights and steering alike."""
    choices: int = 1
    """Answers per prompt."""
    monitored: tuple[str, ...] = ()
    """Dimensions whose probes read every token."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, completions: Sequence[Completion], steering: Json) -> Json:
        choices = [
            {
                "index": index,
                **self.format.choice(self.model, completion),
                **token_readings(self.monitored, completion.events),
            }
            for index, completion in enumerate(completions)
        ]
        return {
            **self._head(self.format.whole),
            "choices": choices,
            "usage": usage([completion.outcome for completion in completions], self.choices),
            "steering": steering,
        }

    def opening(self, index: int, prompt: Sequence[TokenEvent]) -> Json | None:
        opened = self.format.opening(self.model, prompt)
        return None if opened is None else self._chunk(index, opened, None)

    def piece(self, index: int, event: TokenEvent, offset: int) -> Json:
        readings = token_readings(self.monitored, [event])
        return self._chunk(index, {**self.format.piece(self.model, event, offset), **readings}, None)

    def text(self, index: int, text: str) -> Json:
        """The chunk of text that was held back while it might have been a call."""
        return self._chunk(index, {"delta": {"content": text}, "logprobs": None}, None)

    def calls(self, index: int, calls: Sequence[Json]) -> Json:
        numbered = [{"index": number, **call} for number, call in enumerate(calls)]
        return self._chunk(index, {"delta": {"tool_calls": numbered}, "logprobs": None}, None)

    def ending(self, index: int, reason: str) -> Json:
        return self._chunk(index, self.format.ending(), reason)

    def closing(self, outcomes: Sequence[GenerationOutcome]) -> Json:
        """The chunk without a choice that tells the usage, where a client asked for it."""
        return {**self._head(self.format.chunk), "choices": [], "usage": usage(outcomes, self.choices)}

    def _chunk(self, index: int, content: Mapping[str, Any], reason: str | None) -> Json:
        choice = {"index": index, **content, "finish_reason": reason}
        return {**self._head(self.format.chunk), "choices": [choice]}

    def _head(self, kind: str) -> Json:
        return {
            "id": f"{self.format.prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model.checkpoint.model,
            "system_fingerprint": self.fingerprint,
        }


class TokenReadings(BaseModel):
    """P(trustworthy) by dimension, of what the token was drawn from; null where nothing of the answer was read yet."""

    text: str
    """What the token adds to the answer's text; a character of several tokens comes with the last of them."""
    scores: dict[str, float | None]


class Choice(BaseModel):
    index: int
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]
    text: str | None = None
    message: dict[str, Any] | None = None
    logprobs: dict[str, Any] | None = None
    readings: list[TokenReadings] | None = None
    """Of each token, where ``steering`` has a ``monitor``."""


class CompletionResponse(BaseModel):
    """OpenAI's object, and ``steering``. Streamed, it comes as server-sent events."""

    id: str
    object: Literal["chat.completion", "text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    steering: SteeringInfo


class ModelInfo(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    chat: bool
    """Whether the model has a chat template; without one, /v1/completions answers."""
    context_window: int
    max_model_len: int
    """The same by vLLM's name."""
    checkpoint: dict[str, Any]
    steering: dict[str, Any]


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelInfo]
