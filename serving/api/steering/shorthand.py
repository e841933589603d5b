"""Steering shorthand: strengths as one short text, for clients that can send no field of their own.

``toxicity=1.5,privacy=1`` in the header ``X-Steering`` or behind a model's name, ``smollm2@toxicity=1.5``; or ``off``.
"""

import math

from serving.api.errors import ApiError
from serving.api.steering.block import Steering, SteeringChoice

HEADER = "x-steering"


def parse_strengths(text: str, param: str) -> SteeringChoice:
    """The ``steering`` block that ``text`` stands for. Raises ``ApiError`` naming ``param``."""
    if text.strip() == "off":
        return "off"
    strengths: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        strength = _number(number)
        if not name or strength is None or name in strengths:
            raise ApiError(
                f"`{param}` holds {part.strip()!r} and must be off, or a strength per dimension such as toxicity=1.5,"
                "privacy=1",
                param=param,
                code="invalid_steering",
            )
        strengths[name] = strength
    return Steering(strengths=strengths)


def format_strengths(strengths: dict[str, float]) -> str:
    return ",".join(f"{name}={strength:g}" for name, strength in strengths.items())


def split_alias(model: str | None) -> tuple[str | None, str | None]:
    """The model's name and the shorthand behind its ``@``, if there is one."""
    name, separator, strengths = (model or "").partition("@")
    return (name, strengths) if separator else (model, None)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
