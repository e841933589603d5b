"""What a request may say: OpenAI's fields, and ``steering``. Anything else is refused, NaN and infinity too."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.steering.bank import Bound, GenerationScope, PromptScope

OnExceed = Literal["reject", "clamp", "warn"]

Strengths = Annotated[dict[str, float], Field(max_length=64)]
"""Dimension → standard deviations; positive is more trustworthy."""


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, frozen=True)


class Apply(Request):
    """Which tokens are moved: of the prompt, and of the answer."""

    prompt: PromptScope = "last"
    generation: GenerationScope = "all"


class Condition(Request):
    """Steer a token only where the vector's registered probe finds P(trustworthy) below a threshold."""

    probe_below: float = Field(0.5, gt=0, le=1)


class VectorChoice(Request):
    """A live vector by its registry reference, such as ``steer.smollm2.privacy/2`` or ``…@champion``."""

    ref: str = Field(max_length=300)
    op: Literal["add", "project"] = "add"
    strength: float | None = None
    """What ``add`` adds, in standard deviations."""
    target: float | None = None
    """Where ``project`` brings the projection: standard deviations from the fitting activations' mean."""
    bound: Bound | None = None
    """Whether ``project`` moves to the target from both sides (``exactly``, the default) or from one."""
    when: Condition | None = None
    """Which tokens; all of them where there is no condition."""
    layers: list[int] | None = Field(None, max_length=16)
    """A vector is valid at the layer where it was fitted; naming another is an error."""
    apply: Apply = Apply()


class ByDimension(Request):
    """Through the champions: dimensions to add to, dimensions to project, and how."""

    strengths: Strengths = {}
    targets: Strengths = {}
    """Dimension → where its projection is brought, in standard deviations from the fitting activations' mean."""
    bound: Bound | None = None
    """Of every target; ``exactly`` unless said otherwise."""
    when: Condition | None = None
    """Of every strength and target here."""


class Steering(ByDimension):
    """``strengths`` and ``targets`` by dimension through the champions, ``vectors`` by reference."""

    vectors: list[VectorChoice] = Field([], max_length=64)
    on_exceed: OnExceed = "reject"
    """What happens to a strength beyond its range."""


SteeringChoice = Steering | Literal["off"] | None
"""``null`` and ``{}`` inherit the server's default, what is given overrides it by dimension, ``"off"`` clears it."""


class DefaultSteering(ByDimension):
    """PUT /v1/steering/default."""


class VectorReference(Request):
    ref: str = Field(max_length=300)


class StreamOptions(Request):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ResponseFormat(Request):
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


class Sampled(Request):
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


class Answered(Sampled):
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


class CompletionRequest(Answered):
    """POST /v1/completions."""

    prompt: Prompt
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: int | None = Field(None, ge=1, le=1)
    echo: bool | None = None
    suffix: str | None = None

    @property
    def top_logprobs(self) -> int | None:
        return self.logprobs


class TextPart(Request):
    type: Literal["text"]
    text: str


class Message(Request):
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


class ChatRequest(Answered):
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


class Setting(Request):
    steering: SteeringChoice = None


def _require_one_text(prompt: object, messages: Sequence[Message] | None) -> None:
    if (prompt is None) == (messages is None):
        raise ValueError("give either prompt or messages, and not both")


class CompareRequest(Sampled):
    """POST /v1/steering/compare: one prompt under several settings, in one batch."""

    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=1000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    settings: list[Setting] = Field(min_length=1, max_length=8)

    @model_validator(mode="after")
    def _require_text(self) -> Self:
        _require_one_text(self.prompt, self.messages)
        if self.steering is not None:
            raise ValueError("steering belongs into each of the settings")
        return self


class ValidateRequest(Request):
    """POST /v1/steering/validate."""

    model: str | None = Field(None, max_length=300)
    steering: SteeringChoice = None


class ProbeRequest(Request):
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
