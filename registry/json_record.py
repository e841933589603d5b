"""JSON record: a frozen dataclass as one line of text, as a version's tag holds it, and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from types import UnionType
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from .errors import CorruptFile, InvalidInput


def require_types(record: Any) -> None:
    """Raise ``TypeError`` for a field of a dataclass, or of one within it, that is not of the type that it says."""
    for name, kind in get_type_hints(type(record)).items():
        if get_origin(kind) is not ClassVar:
            value = getattr(record, name)
            if not _is_of(value, kind):
                raise TypeError(f"{name} is {value!r}")


def _is_of(value: Any, kind: Any) -> bool:
    origin, of = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_is_of(value, each) for each in of)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(item, of[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _is_of(key, of[0]) and _is_of(item, of[1]) for key, item in value.items()
        )
    if is_dataclass(kind) and isinstance(value, kind):  # type: ignore[arg-type]
        require_types(value)
        return True
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


class JsonRecord:
    """What dataclasses that are kept as text have in common; each says what it is and how it is made anew."""

    KIND: ClassVar[str]
    """Such as ``calibration``."""
    REMEDY: ClassVar[str]
    """What makes a new one."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``. Raises ``CorruptFile`` for anything else."""
        kind: Any = cls
        try:
            record: Self = _read(kind, text)
            return record
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidInput) as error:
            raise CorruptFile(f"the {cls.KIND} cannot be read ({error}); {cls.REMEDY}") from error

    @classmethod
    def fields_of(cls, content: Any) -> dict[str, Any]:
        """The arguments that make the record, of what JSON holds; for records within records."""
        return dict(content)


@lru_cache(maxsize=256)
def _read(kind: Any, text: str) -> Any:
    """Read once: a service asks for the calibrations of its vectors at every request."""
    record = kind(**kind.fields_of(json.loads(text)))
    require_types(record)
    return record
