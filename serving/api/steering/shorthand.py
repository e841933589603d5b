"""Steering shorthand: strengths as one short text, for clients that can send no field of their own.

``toxicity=1.5,privacy=1`` in the header ``X-Steering`` or behind a model's name, ``smollm2@toxicity=1.5``; or ``off``.
Which tokens are steered may follow, as in ``toxicity=1.5;prompt=all``: so evaluations score a text that is steered.
"""

import math
from typing import Any, get_args

from serving.api.errors import ApiError
from serving.api.steering.block import Steering, SteeringChoice
from serving.steering.plan import GenerationScope, PromptScope

HEADER = "x-steering"
SCOPES = {"prompt": get_args(PromptScope), "generation": get_args(GenerationScope)}
"""What may follow the strengths, and its values."""


def parse_strengths(text: str, param: str) -> SteeringChoice:
    """The ``steering`` block that ``text`` stands for. Raises ``ApiError`` naming ``param``."""
    if text.strip() == "off":
        return "off"
    strengths: dict[str, float] = {}
    amounts, separator, scopes = text.partition(";")
    for part in amounts.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        strength = _number(number)
        if not name or strength is None or name in strengths:
            known = f"{name} stands twice" if name in strengths else f"it holds {part.strip()!r}"
            raise ApiError(
                f"`{param}` must be off alone, or one strength per dimension such as toxicity=1.5,privacy=1: {known}",
                param=param,
                code="invalid_steering",
            )
        strengths[name] = strength
    apply: dict[str, Any] = {"apply": _scope(scopes, param)} if separator else {}
    return Steering.model_validate({"strengths": strengths, **apply})


def _scope(text: str, param: str) -> dict[str, str]:
    scope: dict[str, str] = {}
    for part in text.split(";"):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if value not in SCOPES.get(name, ()) or name in scope:
            known = ", ".join(f"{name}={value}" for name, values in SCOPES.items() for value in values)
            raise ApiError(
                f"`{param}` holds {part.strip()!r} behind a semicolon, where one of these may stand: {known}",
                param=param,
                code="invalid_steering",
            )
        scope[name] = value
    return scope


def format_strengths(strengths: dict[str, float]) -> str:
    return ",".join(f"{name}={strength:g}" for name, strength in strengths.items())


def split_alias(model: str | None) -> tuple[str | None, str | None]:
    """The model's name and the shorthand behind its ``@``, if there is one."""
    name, separator, strengths = (model or "").partition("@")
    return (name, strengths) if separator else (model, None)


def _number(text: str) -> float | None:
    if not text.isascii() or "_" in text:  # Python reads 1_0 as ten, and the digits of every script
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
