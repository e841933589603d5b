"""Request body: the strict base of every body that the service reads."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


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
                raise field_error(
                    name, "it holds half of a surrogate pair, which no tokenizer can read: send whole characters"
                )
        return values

    @model_validator(mode="before")
    @classmethod
    def _suggest_fields(cls, values: Any) -> Any:
        """Refuse a field that belongs elsewhere or looks misspelt with its place; pydantic refuses the others."""
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for name in values.keys() - known if isinstance(values, dict) else ():
            if name in cls.HINTS:
                raise field_error(name, cls.HINTS[name])
            near = get_close_matches(str(name), known - values.keys(), n=1, cutoff=0.75)
            if near:
                raise field_error(name, f"there is no field `{name}`; did you mean `{near[0]}`?")
            outer = next((outer for outer, body in cls._bodies() if name in body.model_fields), None)
            if outer is not None:
                raise field_error(name, f'`{name}` is a field of `{outer}`: send {{"{outer}": {{"{name}": …}}}}')
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
    problem = PydanticCustomError("refused", "{message}", {"message": message})
    return ValidationError.from_exception_data("", [InitErrorDetails(type=problem, loc=(name,), input=value)])


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
