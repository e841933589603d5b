"""Requests of the probe route."""

from typing import Self

from pydantic import Field, model_validator

from serving.api.openai.requests import Message, _require_one_text
from serving.api.request_body import RequestBody


class ProbeRequest(RequestBody):
    """POST /v1/probe: texts, or one conversation, scored without generating anything."""

    model: str | None = Field(None, max_length=300)
    input: str | list[str] | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=1000)
    dimensions: list[str] | None = Field(None, min_length=1, max_length=64)
    per_token: bool = False

    @model_validator(mode="after")
    def _require_text(self) -> Self:
        _require_one_text(self.input, self.messages)
        return self

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else list(self.input or ())
