"""Tools of a chat request: the functions that its answer may call, and earlier calls in its conversation."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from serving.api.request_body import JsonObject, RequestBody, drop_fields, field_error, read_object

NAME = r"^[A-Za-z0-9_.-]{1,64}$"
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
PLAIN = frozenset({"$schema", "$id", "$defs", "definitions", "title", "description", "type", "properties", "required"})
"""Keywords of a schema that names all its properties, where it has no others."""


class FunctionDefinition(RequestBody):
    name: str = Field(pattern=NAME, examples=["get_weather"])
    description: str | None = None
    parameters: JsonObject | None = Field(None, examples=[{"type": "object"}])
    """A JSON schema of the arguments; they follow it to the letter. Without one, a function takes no arguments."""
    strict: bool | None = None
    """Accepted either way: the schema is always followed to the letter."""

    @model_validator(mode="after")
    def _require_object(self) -> Self:
        kinds = (self.parameters or {}).get("type", "object")
        if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
            raise field_error(
                "parameters", f"its `type` is {kinds!r}, and arguments are a JSON object: describe one, by type object"
            )
        return self

    @property
    def schema_of_arguments(self) -> dict[str, Any]:
        """What arguments follow: an object, of which no others can be given than it names, unless it allows some."""
        schema = {**(self.parameters or NO_ARGUMENTS), "type": "object"}
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

    @model_validator(mode="before")
    @classmethod
    def _drop_parsed(cls, values: Any) -> Any:
        return drop_fields(values, {"parsed_arguments"})

    @model_validator(mode="after")
    def _require_json(self) -> Self:
        try:
            self.as_object()
        except ValueError as error:
            raise field_error("arguments", str(error), self.arguments) from error
        return self

    def as_object(self) -> dict[str, Any]:
        return read_object(self.arguments or "{}")


class ToolCall(RequestBody):
    """A call that an earlier answer of the conversation made."""

    id: str = Field(max_length=200)
    type: Literal["function"] = "function"
    function: FunctionCall

    @model_validator(mode="before")
    @classmethod
    def _drop_place(cls, values: Any) -> Any:
        """Clients that add up a stream's chunks keep the number of each call."""
        return drop_fields(values, {"index"})

    def to_dict(self) -> dict[str, Any]:
        """As chat templates take it."""
        function = {"name": self.function.name, "arguments": self.function.as_object()}
        return {"id": self.id, "type": "function", "function": function}


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
