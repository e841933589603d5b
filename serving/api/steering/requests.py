"""Requests of the steering routes."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from serving.api.openai.neutral_fields import NEUTRAL
from serving.api.openai.requests import MOST_MESSAGES, Message, SampledRequest, WholeNumber
from serving.api.request_body import Listed, RequestBody, field_error
from serving.api.steering.block import ByDimension, SteeringChoice


class DefaultSteering(ByDimension):
    """PUT /v1/steering/default."""


class VectorReference(RequestBody):
    ref: str = Field(max_length=300, examples=["models:/steer.smollm2.toxicity/1"])


class Setting(RequestBody):
    steering: SteeringChoice = None


class CompareRequest(SampledRequest):
    """POST /v1/steering/compare: one prompt under several settings, in one batch."""

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {**NEUTRAL, "stream": (False,), "n": (1,)}

    prompt: str | None = None
    messages: Listed[Message] | None = Field(None, min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: WholeNumber | None = Field(None, ge=1, le=1_000_000)
    settings: Listed[Setting] = Field(
        min_length=1, max_length=8, examples=[[{"steering": "off"}, {"steering": {"strengths": {"toxicity": 1.5}}}]]
    )

    @model_validator(mode="after")
    def _require_text(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise field_error("prompt", "give either `prompt` or `messages`, and not both")
        if self.steering is not None:
            raise field_error("steering", "put `steering` inside each entry of `settings`")
        return self


class ValidateRequest(RequestBody):
    """POST /v1/steering/validate."""

    model: str | None = Field(None, max_length=300)
    steering: SteeringChoice = None
