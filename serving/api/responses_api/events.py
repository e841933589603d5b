"""Events of a streamed response, numbered in their order, as OpenAI's SDK expects them."""

import json
from collections.abc import AsyncIterator

from registry.errors import TrustTraceError
from serving.api.errors import as_reply
from serving.api.openai.completions import SILENCE
from serving.api.openai.responses import Json, token_readings
from serving.api.openai.streaming import events
from serving.api.responses_api.objects import ResponseWriter
from serving.engine.base import GenerationOutcome, TokenEvent
from serving.settings import Settings


class EventStream:
    """Numbers the events of one response."""

    def __init__(self, writer: ResponseWriter) -> None:
        self._writer = writer
        self._sent = 0
        self._tokens: list[TokenEvent] = []

    @property
    def _text(self) -> str:
        return "".join(token.text for token in self._tokens)

    def opening(self) -> list[bytes]:
        begun = self._writer.begun()
        return [
            self._event("response.created", {"response": begun}),
            self._event("response.in_progress", {"response": begun}),
        ]

    def of_event(self, event: TokenEvent | GenerationOutcome) -> list[bytes]:
        if isinstance(event, GenerationOutcome):
            return self.ending(event)
        self._writer.answer.record.add_token(0, event.text)
        return self.token(event)

    def token(self, token: TokenEvent) -> list[bytes]:
        """The events of one token; with the first, those that open the message."""
        writer, events = self._writer, []
        if not self._tokens:
            events = [
                self._event("response.output_item.added", {"item": writer.item(None, "in_progress")}, in_part=False),
                self._event("response.content_part.added", {"part": writer.part("")}),
            ]
        self._tokens.append(token)
        envelope = writer.answer.envelope
        readings = token_readings(envelope.monitored, [token])
        if token.text or readings:
            delta = {"delta": token.text, "logprobs": [], **readings}
            events.append(self._event("response.output_text.delta", delta))
        return events

    def ending(self, outcome: GenerationOutcome) -> list[bytes]:
        writer, text = self._writer, self._text
        item = writer.item(text, writer.status(outcome), self._tokens)
        steering = writer.answer.end([outcome])
        name = f"response.{writer.status(outcome)}"
        return [
            self._event("response.output_text.done", {"text": text, "logprobs": []}),
            self._event("response.content_part.done", {"part": writer.part(text)}),
            self._event("response.output_item.done", {"item": item}, in_part=False),
            self._event(name, {"response": writer.ended([item], outcome, steering)}),
        ]

    def failure(self, message: str) -> bytes:
        return self._event("response.failed", {"response": self._writer.failed(message)})

    def _event(self, type: str, content: Json, *, in_part: bool = True) -> bytes:
        """``in_part`` events of the message belong to its one part of text."""
        place: Json = {}
        if "response" not in content:
            place = {"output_index": 0} | ({"item_id": self._writer.item_id, "content_index": 0} if in_part else {})
        event = {"type": type, "sequence_number": self._sent, **place, **content}
        self._sent += 1
        encoded = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        return f"event: {type}\ndata: {encoded}\n\n".encode()


async def streamed_response(writer: ResponseWriter, settings: Settings) -> AsyncIterator[bytes]:
    """The answer as server-sent events; what goes wrong in the middle is ``response.failed``."""
    stream, answer = EventStream(writer), writer.answer
    yield b"".join(stream.opening())
    try:
        async for happened in events(answer.generations, settings.timeout, settings.heartbeat):
            ready = [chunk for _, event in happened for chunk in stream.of_event(event)]
            if ready or not happened:
                yield b"".join(ready) or SILENCE
    except TrustTraceError as error:
        status, reply, _ = as_reply(error)
        answer.record.fail(status, reply["error"])
        yield stream.failure(reply["error"]["message"])
