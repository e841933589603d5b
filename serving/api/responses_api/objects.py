"""Response objects of the Responses API: an answer as the SDK reads it, whole or while it grows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from serving.api.openai.completions import Answer
from serving.api.openai.responses import Json, token_readings
from serving.api.openai.usage import usage
from serving.api.responses_api.requests import ResponsesRequest
from serving.api.steering.block import SteeringInfo
from serving.engine.base import GenerationOutcome, TokenEvent

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is not complete, by why its generation ended."""


@dataclass(frozen=True)
class ResponseWriter:
    """Writes the objects of one answer, which all have its id and the fields of its request."""

    answer: Answer
    body: ResponsesRequest

    @property
    def item_id(self) -> str:
        return f"msg_{self.answer.envelope.id}"

    def begun(self) -> Json:
        """The response before its first token."""
        return self._response("in_progress", [])

    def item(self, text: str | None, status: str, events: Sequence[TokenEvent] = ()) -> Json:
        """The message with its text; without any part before the first token."""
        envelope = self.answer.envelope
        readings = token_readings(envelope.monitored, events) if events else {}
        content = [] if text is None else [self.part(text)]
        item = {"type": "message", "id": self.item_id, "status": status, "role": "assistant", "content": content}
        return item | readings

    def part(self, text: str) -> Json:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def ended(self, output: list[Json], outcome: GenerationOutcome, steering: Json) -> Json:
        """The response at its end."""
        reason = INCOMPLETE.get(outcome.reason)
        counts = usage([outcome])
        return {
            **self._response(self.status(outcome), output),
            "completed_at": int(time.time()),
            "incomplete_details": None if reason is None else {"reason": reason},
            "usage": {
                "input_tokens": counts["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": outcome.cached_prompt or 0, "cache_write_tokens": 0},
                "output_tokens": counts["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": counts["total_tokens"],
            },
            "steering": steering,
        }

    def failed(self, message: str) -> Json:
        return {**self._response("failed", []), "error": {"code": "server_error", "message": message}}

    def status(self, outcome: GenerationOutcome) -> Literal["completed", "incomplete"]:
        return "incomplete" if outcome.reason in INCOMPLETE else "completed"

    def _response(self, status: str, output: list[Json]) -> Json:
        envelope, body = self.answer.envelope, self.body
        sampling = self.answer.generations[0].request.sampling
        given = body.text.format if body.text is not None else None
        format: Json = {"type": "text"} if given is None else given.model_dump(by_alias=True, exclude_none=True)
        return {
            "id": f"resp_{envelope.id}",
            "object": "response",
            "created_at": envelope.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": envelope.model.checkpoint.model,
            "output": output,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": sampling.temperature,
            "text": {"format": format},
            "tool_choice": "none",
            "tools": [],
            "top_p": sampling.top_p,
            "truncation": "disabled",
            "usage": None,
        }


class ResponseObject(BaseModel):
    """OpenAI's response object, and ``steering``. Streamed, it comes within server-sent events."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any]
    steering: SteeringInfo
