"""Requests of the Responses API, and the conversation that each stands for."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from registry.counts import counted
from serving.api.openai.neutral_fields import NEUTRAL
from serving.api.openai.requests import MOST_MESSAGES, ChatRequest, SampledRequest, StreamOptions, WholeNumber
from serving.api.request_body import JsonObject, Listed, RequestBody, drop_fields, field_error

Unsupported = Mapping[str, tuple[Any, ...]]


class InputText(RequestBody):
    type: Literal["input_text", "output_text", "text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _drop_hints(cls, values: Any) -> Any:
        return drop_fields(values, {"annotations", "logprobs", "cache_control"})


class InputMessage(RequestBody):
    """A message of the conversation; those of earlier answers can be sent as they came."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Listed[InputText]

    @model_validator(mode="before")
    @classmethod
    def _drop_states(cls, values: Any) -> Any:
        return drop_fields(values, {"id", "status", "phase", "readings"})

    def as_chat(self) -> dict[str, Any]:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": text}


class ResponseTextFormat(RequestBody):
    """Text, any JSON object, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: JsonObject | None = Field(None, alias="schema", examples=[{"type": "object"}])
    strict: bool | None = None
    """Accepted either way: the schema is always followed to the letter."""

    @model_validator(mode="after")
    def _require_schema(self) -> Self:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise field_error("schema", "`schema` is given where, and only where, `type` is json_schema")
        return self

    def as_chat(self) -> dict[str, Any]:
        return {"type": self.type} | ({} if self.schema_ is None else {"json_schema": {"schema": self.schema_}})


class ResponseText(RequestBody):
    format: ResponseTextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponsesRequest(SampledRequest):
    """POST /v1/responses."""

    unsupported: ClassVar[Unsupported] = {
        **NEUTRAL, "background": (False,), "include": ([], ["reasoning.encrypted_content"]),
        "previous_response_id": (), "conversation": (), "prompt": (), "truncation": ("disabled",),
        "reasoning": ({}, {"effort": "none"}, {"summary": "auto"}, {"effort": "none", "summary": "auto"}),
        "top_logprobs": (0,), "n": (1,),
        "max_tool_calls": (), "context_management": ([],), "moderation": (), "image": (), "background_options": (),
        "access_programs": (), "prompt_cache_options": (None, {}),
    }  # fmt: skip

    HINTS: ClassVar[Mapping[str, str]] = {
        **SampledRequest.HINTS,
        "messages": "`messages` is `input` on this route: send the conversation as that",
    }

    input: str | Listed[InputMessage] = Field(examples=["Is it true that bats are blind?"])
    instructions: str | None = None
    """A system message before the input."""
    max_tokens: None = None
    """``max_output_tokens`` on this route."""
    max_output_tokens: WholeNumber | None = Field(None, ge=1, le=1_000_000, examples=[64])
    text: ResponseText | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: JsonObject | None = None
    """Told again in the response."""

    @model_validator(mode="before")
    @classmethod
    def _require_own_length(cls, values: Any) -> Any:
        for name in ("max_tokens", "max_completion_tokens"):
            if isinstance(values, dict) and values.get(name) is not None:
                raise field_error(name, f"`{name}` is `max_output_tokens` on this route: send that", values[name])
        return drop_fields(values, {"max_completion_tokens"})

    @model_validator(mode="after")
    def _require_answerable(self) -> Self:
        if not self.input:
            raise field_error("input", "`input` is empty; give a text, or a list of messages")
        if isinstance(self.input, list) and len(self.input) >= MOST_MESSAGES:
            raise field_error(
                "input", f"it holds {counted(len(self.input), 'message')} and may hold {MOST_MESSAGES - 1}"
            )
        return self

    def as_chat(self) -> ChatRequest:
        """The same as a request of /v1/chat/completions."""
        messages = [] if self.instructions is None else [{"role": "system", "content": self.instructions}]
        if isinstance(self.input, str):
            messages.append({"role": "user", "content": self.input})
        else:
            messages += [item.as_chat() for item in self.input]
        given = self.text.format if self.text is not None else None
        return ChatRequest.model_validate(
            {
                "messages": messages,
                "max_completion_tokens": self.max_output_tokens,
                "response_format": None if given is None else given.as_chat(),
                **{name: getattr(self, name) for name in SampledRequest.model_fields if name != "max_tokens"},
            }
        )
