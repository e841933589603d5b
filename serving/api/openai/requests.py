"""Requests of OpenAI's routes: OpenAI's fields and `steering`."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from serving.api.request_body import RequestBody
from serving.api.steering.block import SteeringChoice


class StreamOptions(RequestBody):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ResponseFormat(RequestBody):
    type: Literal["text"]


_UNSUPPORTED = {
    "tools": "tools are not called by this service; leave tools out",
    "functions": "functions are not called by this service; leave functions out",
    "logit_bias": "logit_bias is not supported; steering.strengths is this service's way to change what is said",
    "frequency_penalty": "penalties are not supported; leave frequency_penalty at 0",
    "presence_penalty": "penalties are not supported; leave presence_penalty at 0",
    "suffix": "text is only continued, not inserted; leave suffix out",
    "echo": "the prompt is not repeated in the answer; leave echo out",
}


class SampledRequest(RequestBody):
    """How an answer is drawn: the fields that OpenAI's two routes share."""

    model: str | None = Field(None, max_length=300)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    steering: SteeringChoice = None
    ignore_eos: bool = False
    """Go on past the model's end of text, for benchmarks."""
    logit_bias: dict[str, float] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    user: str | None = None
    """This and what follows is taken from OpenAI's clients and changes nothing."""
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _require_supported(self) -> Self:
        for name, sentence in _UNSUPPORTED.items():
            if getattr(self, name, None):
                raise ValueError(sentence)
        if len(self.stops) > 4 or not all(0 < len(one) <= 200 for one in self.stops):
            raise ValueError("stop is a text or up to 4 texts, each of 1 to 200 characters")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class OpenAIRequest(SampledRequest):
    """What both of OpenAI's routes take beyond that."""

    n: int | None = Field(None, ge=1, le=128)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def with_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


Prompt = str | list[str] | list[int] | list[list[int]]


class CompletionRequest(OpenAIRequest):
    """POST /v1/completions."""

    prompt: Prompt
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: int | None = Field(None, ge=1, le=1)
    echo: bool | None = None
    suffix: str | None = None

    @property
    def top_logprobs(self) -> int | None:
        return self.logprobs


class TextPart(RequestBody):
    type: Literal["text"]
    text: str


class Message(RequestBody):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None
    refusal: None = None
    annotations: list[Any] | None = Field(None, max_length=0)
    audio: None = None
    tool_calls: None = None
    function_call: None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(OpenAIRequest):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    tools: list[Any] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: list[Any] | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _require_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self


def _require_one_text(prompt: object, messages: Sequence[Message] | None) -> None:
    if (prompt is None) == (messages is None):
        raise ValueError("give either prompt or messages, and not both")
