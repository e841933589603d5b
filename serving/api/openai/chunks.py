"""Chunks of a streamed answer, as server-sent events."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from registry.errors import TrustTraceError
from serving.api.errors import as_reply
from serving.api.openai.completions import DONE, SILENCE, Answer
from serving.api.openai.requests import OpenAIRequest
from serving.api.openai.responses import Json
from serving.api.openai.streaming import events
from serving.engine.base import GenerationOutcome, TokenEvent
from serving.settings import Settings


async def streamed(settings: Settings, answer: Answer, body: OpenAIRequest) -> AsyncIterator[bytes]:
    """The answer as server-sent events; an error in the middle is an event too, and no ``[DONE]`` follows it.

    What is ready together is sent at once: every send passes through the layers of a server.
    """
    chunks = Chunks(answer, body)
    try:
        async for happened in events(answer.generations, settings.timeout, settings.heartbeat):
            ready = [_sent(chunk) for item in happened for chunk in chunks.of_event(*item)]
            if ready or not happened:
                yield b"".join(ready) or SILENCE
        yield DONE
    except TrustTraceError as error:
        status, reply, _ = as_reply(error)
        answer.record.fail(status, reply["error"])
        yield _sent(reply)


class Chunks:
    """The chunks of one answer, made as its tokens come."""

    def __init__(self, answer: Answer, body: OpenAIRequest) -> None:
        self._answer, self._envelope, self._body = answer, answer.envelope, body
        self._outcomes: dict[int, GenerationOutcome] = {}
        self._lengths: dict[int, int] = {}
        """Characters sent, by choice; of those that have begun."""
        self._readers = [self._envelope.format.reader() for _ in answer.generations]
        self._generated = 0

    def of_event(self, index: int, event: TokenEvent | GenerationOutcome) -> list[Json]:
        """The chunks of one event of a choice; with its first, the one that opens it."""
        chunks = [] if index in self._lengths else self._opening(index)
        return chunks + (
            self._ending(index, event) if isinstance(event, GenerationOutcome) else self._piece(index, event)
        )

    def _opening(self, index: int) -> list[Json]:
        """With the first token, so that clients measure the time to it."""
        prompt = self._answer.generations[index].prompt
        self._lengths[index] = sum(len(token.text) for token in prompt)
        opening = self._envelope.opening(index, prompt)
        return [] if opening is None else [opening]

    def _piece(self, index: int, event: TokenEvent) -> list[Json]:
        self._answer.record.add_token(index, event.text)
        self._generated += 1
        reader = self._readers[index]
        if reader is not None:
            event = replace(event, text=reader.add(event.text))
        offset = self._lengths[index]
        self._lengths[index] += len(event.text)
        if not event.text and event.logprob is None and not event.readings:
            return []
        return [self._envelope.piece(index, event, offset) | self._running_usage()]

    def _ending(self, index: int, outcome: GenerationOutcome) -> list[Json]:
        chunks: list[Json] = []
        reason: str = outcome.reason
        reader = self._readers[index]
        if reader is not None:
            rest, calls = reader.finish()
            if rest:
                chunks.append(self._envelope.text(index, rest))
            if calls:
                chunks.append(self._envelope.calls(index, calls))
                reason = "tool_calls" if reason == "stop" else reason
        self._outcomes[index] = outcome
        last = self._envelope.ending(index, reason) | self._running_usage()
        if len(self._outcomes) < len(self._answer.generations):
            return [*chunks, last]
        return chunks + self._last(last, [self._outcomes[place] for place in sorted(self._outcomes)])

    def _last(self, ending: Json, outcomes: Sequence[GenerationOutcome]) -> list[Json]:
        """The applied steering stands on whichever chunk ends the stream."""
        steering = self._answer.end(outcomes)
        if not self._body.with_usage:
            return [{**ending, "steering": steering}]
        return [ending, {**self._envelope.closing(outcomes), "steering": steering}]

    def _running_usage(self) -> Json:
        """The usage so far, where the client asks for it on every chunk."""
        if not self._body.with_continuous_usage:
            return {}
        prompts = [
            generation.request.prompt_tokens for generation in self._answer.generations[:: self._envelope.choices]
        ]
        read = sum(map(len, prompts))
        total = {"prompt_tokens": read, "completion_tokens": self._generated, "total_tokens": read + self._generated}
        return {"usage": total}


def _sent(content: Any) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
