"""Presidio's recognisers of personal details, where it is installed: another judge of the same texts.

Only the recognisers that go by form and check digits are asked. Presidio finds names and places by a language model of
spaCy's, which no package index carries; they are not looked for, as in ``pii``.
"""

import logging
from collections.abc import Callable
from importlib.util import find_spec

from registry.errors import Unavailable

PRESIDIO_ANALYZER = "2.2.366"
"""The version that is tested; the same stands in ``pyproject.toml``."""
RECOGNISERS = ("CreditCard", "Email", "Iban", "Ip", "Phone", "UsSsn")


def presidio_details() -> Callable[[str], tuple[str, ...]]:
    """A function that names the kinds of personal detail in a text. Raises ``Unavailable`` without Presidio."""
    if find_spec("presidio_analyzer") is None:
        raise Unavailable(f"pii=presidio needs Presidio; run: pip install presidio-analyzer=={PRESIDIO_ANALYZER}")
    from presidio_analyzer import predefined_recognizers

    # Offline it complains at length of a list of domains, and goes on with the one that it carries.
    logging.getLogger("tldextract").setLevel(logging.CRITICAL)
    recognisers = [getattr(predefined_recognizers, f"{name}Recognizer")() for name in RECOGNISERS]

    def details(text: str) -> tuple[str, ...]:
        matches = (match for by in recognisers for match in by.analyze(text, by.supported_entities, None))
        return tuple(dict.fromkeys(str(match.entity_type) for match in matches))

    return details
