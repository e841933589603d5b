"""Request body: the strict base of every body that the service reads.

Bodies are validated on the event loop, through which everybody's answers go. So whatever is wrong with one is found
once: a million wrong items are refused by the first.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from registry.counts import counted

SUGGESTED = 8
"""Unknown fields of a body that are compared with the known ones; a body with more is refused by the first."""
LONGEST_NAME = 64
"""Characters of a field's name that is compared."""
DEEP = "it is nested too deep: send it flatter"
HALF = "it holds half of a surrogate pair, which no tokenizer can read: send whole characters"

Item = TypeVar("Item")
Listed = Annotated[list[Item], Field(fail_fast=True)]
"""A list that is refused by its first wrong item."""


class RequestBody(BaseModel):
    """Unknown fields, wrong types, NaN, infinity and text that is no Unicode are refused by name."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, strict=True, frozen=True, use_attribute_docstrings=True
    )
    HINTS: ClassVar[Mapping[str, str]] = {
        "extra_body": "`extra_body` is an argument of OpenAI's Python client: send what it holds as fields of the body"
    }
    """What to do about fields that clients are known to send and that the body does not have."""

    @model_validator(mode="before")
    @classmethod
    def _require_unicode(cls, values: Any) -> Any:
        for name, text in _texts(values) if isinstance(values, dict) else ():
            if _is_broken(text):
                raise field_error(name, HALF)
        return values

    @model_validator(mode="before")
    @classmethod
    def _suggest_fields(cls, values: Any) -> Any:
        """Refuse a field that belongs elsewhere or looks misspelt with its place; pydantic refuses the others."""
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = [name for name in values if name not in known] if isinstance(values, dict) else []
        for name in unknown[:SUGGESTED]:
            if name in cls.HINTS:
                raise field_error(name, cls.HINTS[name])
            near = get_close_matches(str(name)[: LONGEST_NAME + 1], known - values.keys(), n=1, cutoff=0.75)
            if near and len(str(name)) <= LONGEST_NAME:
                raise field_error(name, f"there is no field `{name}`; did you mean `{near[0]}`?")
            outer = next((outer for outer, body in cls._bodies() if name in body.model_fields), None)
            if outer is not None:
                raise field_error(name, f'`{name}` is a field of `{outer}`: send {{"{outer}": {{"{name}": …}}}}')
        if len(unknown) > SUGGESTED:
            raise field_error(unknown[0], f"there is no field `{unknown[0]}`, nor {counted(len(unknown) - 1, 'other')}")
        return values

    @classmethod
    def _bodies(cls) -> "Iterator[tuple[str, type[RequestBody]]]":
        """The fields that are bodies themselves, or may be."""
        for name, field in cls.model_fields.items():
            parts = () if get_origin(field.annotation) is list else get_args(field.annotation)
            for part in (field.annotation, *parts):
                if isinstance(part, type) and issubclass(part, RequestBody):
                    yield field.alias or name, part


def field_error(name: str | int, message: str, value: object = None) -> ValidationError:
    """The error for a validator to raise: ``name`` is at fault, and ``message`` says why."""
    return ValidationError.from_exception_data("", [InitErrorDetails(type=_problem(message), loc=(name,), input=value)])


def _problem(message: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{message}", {"message": message})


def _require_writable(value: dict[str, Any]) -> dict[str, Any]:
    """An object of any JSON, once it is certain that it can be written as a text again."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _problem(HALF) from error
    except RecursionError as error:
        raise _problem(DEEP) from error
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_require_writable)]
"""An object whose fields nobody here knows, such as a schema."""


def read_object(text: str) -> dict[str, Any]:
    """The JSON object that ``text`` is. Raises ``ValueError`` saying what is wrong with it."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(DEEP) from error
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("it must be a JSON object, written as text")
    return _require_writable(value) if "\\u" in text else value


def drop_fields(values: Any, names: Collection[str]) -> Any:
    """``values`` without these fields, where they are an object."""
    return {name: value for name, value in values.items() if name not in names} if isinstance(values, dict) else values


def _texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts directly in a body, in a list of it or in a mapping of it, by field; those of a list, which may be tens
    of thousands, as one.
    """
    for name, value in values.items():
        yield str(name), str(name)
        if isinstance(value, str):
            yield str(name), value
        elif isinstance(value, list | dict):
            parts = value if isinstance(value, list) else [*value, *value.values()]
            yield str(name), "".join([part for part in parts if isinstance(part, str)])


def _is_broken(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
