"""Calls of functions as an answer writes them: text around arguments that follow a JSON schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CallFrame:
    """A function's call as text: ``begin``, arguments by a JSON schema, ``end``."""

    name: str
    begin: str
    schema: Mapping[str, Any]
    end: str


@dataclass(frozen=True)
class Calls:
    """The calls that an answer may make: one of them alone, or any of them within text, each behind the ``trigger``."""

    frames: tuple[CallFrame, ...]
    trigger: str = ""
    """The text that begins every call within text; empty where the answer is one call."""
    at_most_one: bool = False
    """Whether the answer ends with its first call within text."""
