"""JSON record: a frozen dataclass as one line of text, as a version's tag holds it, and back."""

import json
from dataclasses import asdict
from typing import Any, ClassVar, Self

from .errors import CorruptFile, InvalidInput


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
        try:
            return cls(**cls.fields_of(json.loads(text)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidInput) as error:
            raise CorruptFile(f"the {cls.KIND} cannot be read ({error}); {cls.REMEDY}") from error

    @classmethod
    def fields_of(cls, content: Any) -> dict[str, Any]:
        """The arguments that make the record, of what JSON holds; for records within records."""
        return dict(content)
