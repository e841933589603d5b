"""Requests of the probe route."""

from typing import Self

from pydantic import Field, model_validator

from serving.api.openai.requests import MOST_MESSAGES, Message
from serving.api.request_body import Listed, RequestBody, field_error


class ProbeRequest(RequestBody):
    """POST /v1/probe: texts, or one conversation, scored without generating anything.

    With a prompt, a text or a conversation, the texts are its answers, and are read as a monitor reads them.
    """

    model: str | None = Field(None, max_length=300)
    input: str | Listed[str] | None = Field(None, examples=["Bats are blind."])
    prompt: str | None = None
    """What the texts of ``input`` go on with, or answer."""
    messages: Listed[Message] | None = Field(None, min_length=1, max_length=MOST_MESSAGES)
    """A conversation to score or, beside ``input``, to be answered by its texts."""
    dimensions: Listed[str] | None = Field(None, min_length=1, max_length=64)
    per_token: bool = False

    @model_validator(mode="after")
    def _require_text(self) -> Self:
        if self.prompt is not None and (self.input is None or self.messages is not None):
            raise field_error(
                "prompt", "`prompt` is what the texts of `input` answer: give `input` beside it, and no `messages`"
            )
        if self.input is None and self.messages is None:
            raise field_error("input", "give the texts to score as `input`, or a conversation as `messages`")
        return self

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else list(self.input or ())
