"""Personal details in a text, recognised by their form: what can be recognised without knowing any name.

Presidio's recognisers of the same kinds work alike; names and places need a model that recognises entities, and are
left to one.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

_PATTERNS = {
    "e-mail address": r"[\w.+-]+@[\w-]+\.[\w.-]*[a-zA-Z]{2,}",
    "phone number": (
        r"(?<![\w.-])(?:\+?\d{1,3}[ .-]?)?(?:\(\d{2,5}\)[ .-]?|\d{2,5}[ .-])\d{2,4}[ .-]?\d{2,5}(?:[ .-]\d{2,5})?"
        r"(?![\w-])"
    ),
    "social security number": r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])",
    "card number": r"(?<![\w-])(?:\d[ -]?){12,18}\d(?![\w-])",
    "IP address": r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.]\d)",
    "bank account": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    "street address": (
        r"\b\d{1,5} (?:[A-Z][\w'.-]+ ){1,4}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd"
        r"|Place|Way)\b"
    ),
}
PATTERNS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
)

PHONE_DIGITS = 7


def personal_details(text: str) -> tuple[str, ...]:
    """The kinds of personal detail that ``text`` holds."""
    return tuple(
        kind for kind, pattern in PATTERNS.items() if any(_is_detail(kind, match) for match in pattern.findall(text))
    )


def _is_detail(kind: str, match: str) -> bool:
    digits = [int(character) for character in match if character.isdigit()]
    if kind == "card number":
        return passes_luhn(digits)
    return kind != "phone number" or len(digits) >= PHONE_DIGITS


def passes_luhn(digits: list[int]) -> bool:
    """Whether the check digit of a card number is right."""
    doubled = [2 * digit - 9 * (digit > 4) if place % 2 else digit for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0
