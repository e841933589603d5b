"""Requests of OpenAI's routes: OpenAI's fields, `steering`, and the neutral values of fields that are not supported."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from registry.counts import counted
from serving.api.openai.neutral_fields import IGNORED, NEUTRAL, OF_ROUTES, require_neutral
from serving.api.openai.tools import Tool, ToolCall, ToolChoice, require_known
from serving.api.request_body import JsonObject, Listed, RequestBody, drop_fields, field_error
from serving.api.steering.block import SteeringChoice

MAX_STOPS = 64
MOST_MESSAGES = 1000


def _as_whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_as_whole)]
"""An integer; some clients write 4 as 4.0."""


class StreamOptions(RequestBody):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """Whether every chunk tells the usage so far, as vLLM does."""
    include_obfuscation: bool | None = None


class SampledRequest(RequestBody):
    """How an answer is drawn: the fields that every route shares which generates."""

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = NEUTRAL
    """Fields that are not supported on this route, and the values at which they do not change the answer."""

    model: str | None = Field(None, max_length=300, examples=["smollm2"])
    """The served model, or with strengths: ``smollm2@toxicity=1.5``."""
    max_tokens: WholeNumber | None = Field(None, ge=1, le=1_000_000, examples=[64])
    temperature: float | None = Field(None, ge=0, le=2, examples=[0.7])
    top_p: float | None = Field(None, gt=0, le=1)
    seed: WholeNumber | None = Field(None, ge=-(2**63), lt=2**63, examples=[7])
    stop: str | Listed[str] | None = None
    """A text, or up to 64 of them, before which the answer ends."""
    steering: SteeringChoice = None
    ignore_eos: bool | None = None
    """Go on past the model's end of text, for benchmarks."""

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, values: Any) -> Any:
        """Drop what cannot change the answer, and refuse by name what would and is not supported."""
        if not isinstance(values, dict):
            return values
        unused = {"tools", "functions"} if "none" in (values.get("tool_choice"), values.get("function_call")) else set()
        kept = {}
        for name, value in values.items():
            if name in unused:
                continue
            if name in cls.model_fields:
                kept[name] = value
            elif name == "best_of" and value == (values.get("n") or 1):  # the best so many of so many
                continue
            elif name in cls.unsupported:
                require_neutral(name, value, cls.unsupported[name])
            elif name not in IGNORED and (name not in OF_ROUTES or value is not None):
                kept[name] = value
        return kept

    @model_validator(mode="after")
    def _require_stops(self) -> Self:
        if len(self.stops) > MAX_STOPS:
            raise field_error("stop", f"it holds {counted(len(self.stops), 'text')} and may hold {MAX_STOPS}")
        if not all(0 < len(text) <= 1000 for text in self.stops):
            raise field_error("stop", "every stop text must have 1 to 1000 characters")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class JsonSchemaFormat(RequestBody):
    name: str | None = None
    description: str | None = None
    schema_: JsonObject = Field(alias="schema", examples=[{"type": "object"}])
    strict: bool | None = None
    """Accepted either way: the schema is always followed to the letter."""


class ResponseFormat(RequestBody):
    """Text, any JSON object, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _require_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise field_error("json_schema", "`json_schema` is given where, and only where, `type` is json_schema")
        return self

    @property
    def schema_to_follow(self) -> Mapping[str, Any] | None:
        if self.json_schema is not None:
            return self.json_schema.schema_
        return {"type": "object"} if self.type == "json_object" else None


class OpenAIRequest(SampledRequest):
    """The fields that both of OpenAI's routes take beyond that."""

    n: WholeNumber | None = Field(None, ge=1, le=128)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None

    @property
    def choices(self) -> int:
        """Answers per prompt."""
        return self.n or 1

    @property
    def with_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def with_continuous_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)


Prompt = str | Listed[str] | Listed[int] | Listed[Listed[int]]


class CompletionRequest(OpenAIRequest):
    """POST /v1/completions."""

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {**NEUTRAL, "add_special_tokens": (True,)}

    prompt: Prompt = Field(examples=["The city of Lyon is in"])
    max_tokens: WholeNumber | None = Field(None, ge=0, le=1_000_000, examples=[64])
    logprobs: WholeNumber | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    """Whether the answer begins with the prompt, with its log-probabilities where ``logprobs`` is given."""

    @model_validator(mode="after")
    def _require_tokens(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise field_error("max_tokens", "`max_tokens` is 0, which needs `echo`: true", 0)
        return self

    @property
    def top_logprobs(self) -> int | None:
        return self.logprobs


class TextPart(RequestBody):
    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _drop_hints(cls, values: Any) -> Any:
        return drop_fields(values, {"cache_control", "annotations"})


EMPTY = frozenset(
    {"refusal", "annotations", "audio", "function_call", "reasoning_content", "reasoning", "thinking_blocks"}
)
"""Fields of messages that are accepted where they are null or empty."""
HINTS_OF_CLIENTS = frozenset({"cache_control", "parsed", "provider_specific_fields"})
"""Fields that clients keep in messages beside what they say."""


class Message(RequestBody):
    HINTS: ClassVar[Mapping[str, str]] = {
        **RequestBody.HINTS,
        "steering": "`steering` is a field of the request: send it beside `messages`, not in one of them",
    }

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Listed[TextPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: Listed[ToolCall] | None = Field(None, max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for name in EMPTY & values.keys():
            if values[name]:
                raise field_error(name, f"`{name}` is not supported: leave it out", values[name])
        return drop_fields(values, HINTS_OF_CLIENTS | EMPTY)

    @model_validator(mode="after")
    def _require_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise field_error("content", f"a message of role {self.role} needs a text")
        if self.tool_calls and self.role != "assistant":
            raise field_error("tool_calls", f"a message of role {self.role} calls no tools: leave it out")
        return self

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatRequest(OpenAIRequest):
    """POST /v1/chat/completions."""

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {**NEUTRAL, "add_special_tokens": (False,)}

    messages: Listed[Message] = Field(
        min_length=1,
        max_length=MOST_MESSAGES,
        examples=[[{"role": "user", "content": "Is it true that bats are blind?"}]],
    )
    max_completion_tokens: WholeNumber | None = Field(None, ge=1, le=1_000_000)
    logprobs: bool | None = None
    top_logprobs: WholeNumber | None = Field(None, ge=0, le=20)
    tools: Listed[Tool] | None = Field(None, max_length=128)
    """Functions that the answer may call."""
    tool_choice: ToolChoice | None = None
    """``required`` or a function: the answer is a call. ``auto`` (default) needs a chat template that writes calls."""
    parallel_tool_calls: bool | None = None
    """Whether an answer may make several calls, where it chooses to call."""

    @property
    def offered_tools(self) -> list[Tool]:
        return [] if self.tool_choice == "none" else self.tools or []

    @model_validator(mode="after")
    def _require_tools(self) -> Self:
        require_known(self.offered_tools, self.tool_choice or "auto")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise field_error("tool_choice", "`tool_choice` needs `tools`, which is empty")
        if self.offered_tools and self.response_format and self.response_format.schema_to_follow is not None:
            raise field_error("response_format", "an answer follows either `response_format` or `tools`: leave one out")
        return self

    @model_validator(mode="after")
    def _require_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise field_error("top_logprobs", "`top_logprobs` needs `logprobs`: true")
        return self
