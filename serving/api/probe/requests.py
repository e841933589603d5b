"""Requests of the probe route."""

from typing import Self

from pydantic import Field, model_validator

from serving.api.openai.requests import Message
from serving.api.request_body import RequestBody, field_error


class ProbeRequest(RequestBody):
    """POST /v1/probe: texts, or one conversation, scored without generating anything."""

    model: str | None = Field(None, max_length=300)
    input: str | list[str] | None = Field(None, examples=["Bats are blind."])
    messages: list[Message] | None = Field(None, min_length=1, max_length=1000)
    dimensions: list[str] | None = Field(None, min_length=1, max_length=64)
    per_token: bool = False

    @model_validator(mode="after")
    def _require_text(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise field_error("input", "give either `input` or `messages`, and not both")
        return self

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else list(self.input or ())
