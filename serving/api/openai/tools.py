"""Tools of a chat request: the functions that its answer may call, and earlier calls in its conversation."""

import json
from typing import Any, Literal

from pydantic import Field, model_validator

from serving.api.request_body import RequestBody, field_error

NAME = r"^[A-Za-z0-9_.-]{1,64}$"
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
PLAIN = frozenset({"$schema", "$id", "$defs", "definitions", "title", "description", "type", "properties", "required"})
"""Keywords of a schema that names all its properties, where it has no others."""


class FunctionDefinition(RequestBody):
    name: str = Field(pattern=NAME, examples=["get_weather"])
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, examples=[{"type": "object"}])
    """A JSON schema of the arguments; they follow it to the letter. Without one, a function takes no arguments."""
    strict: bool | None = None
    """Accepted either way: the schema is always followed to the letter."""

    @property
    def schema_of_arguments(self) -> dict[str, Any]:
        """What arguments follow: no function can be called with others than it names, unless its schema allows some."""
        schema = self.parameters or NO_ARGUMENTS
        return {**schema, "additionalProperties": False} if _names_all(schema) else schema

    def to_dict(self) -> dict[str, Any]:
        """As chat templates take it."""
        parameters = self.parameters or NO_ARGUMENTS
        function = {"name": self.name, "description": self.description or "", "parameters": parameters}
        return {"type": "function", "function": function}


def _names_all(schema: dict[str, Any]) -> bool:
    """Whether the properties of an object by this schema are the named ones, as far as the schema says."""
    named, required = schema.get("properties"), schema.get("required") or []
    plain = schema.keys() <= PLAIN and isinstance(named, dict) and isinstance(required, list)
    return plain and all(name in list(named or ()) for name in required)


class Tool(RequestBody):
    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(RequestBody):
    name: str = Field(pattern=NAME)


class NamedTool(RequestBody):
    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class FunctionCall(RequestBody):
    name: str = Field(pattern=NAME)
    arguments: str
    """JSON."""

    @model_validator(mode="after")
    def _require_json(self) -> "FunctionCall":
        try:
            arguments = json.loads(self.arguments or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise field_error("arguments", "it must be a JSON object, written as text", self.arguments)
        return self


class ToolCall(RequestBody):
    """A call that an earlier answer of the conversation made."""

    id: str = Field(max_length=200)
    type: Literal["function"] = "function"
    function: FunctionCall

    def to_dict(self) -> dict[str, Any]:
        """As chat templates take it."""
        arguments = json.loads(self.function.arguments or "{}")
        return {"id": self.id, "type": "function", "function": {"name": self.function.name, "arguments": arguments}}


def require_known(tools: list[Tool], choice: ToolChoice) -> None:
    """Raise a validation error for a function that is offered twice, and for a choice of one that is not offered."""
    names = [tool.function.name for tool in tools]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise field_error("tools", f"the function {double} is offered twice; name each once")
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise field_error(
            "tool_choice", f"the function {choice.function.name} is not among `tools`: {', '.join(names) or 'none'}"
        )
