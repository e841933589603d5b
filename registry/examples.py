"""Example: a prompt at which steering a vector shows, with both answers, as one text."""

from dataclasses import dataclass
from typing import ClassVar

from registry.errors import InvalidInput
from registry.json_record import JsonRecord

LONGEST = 4000
"""Characters of a prompt or answer."""


@dataclass(frozen=True)
class Example(JsonRecord):
    """A prompt and what the model wrote after it, greedily, unsteered and steered. Chosen to show, not typical.

    Raises ``InvalidInput`` for fields of other types and for texts beyond ``LONGEST``.
    """

    KIND: ClassVar[str] = "example"
    REMEDY: ClassVar[str] = "export the vector again"

    prompt: str
    chat: bool
    """Whether it was sent as a message of a chat, or as text to go on with."""
    strength: float
    max_tokens: int
    unsteered: str
    steered: str
    tried: int = 1
    """Prompts that it was chosen of."""

    def __post_init__(self) -> None:
        texts = (self.prompt, self.unsteered, self.steered)
        numbers = (self.strength, self.max_tokens, self.tried)
        if not (
            all(isinstance(text, str) and len(text) <= LONGEST for text in texts)
            and all(isinstance(number, int | float) for number in numbers)
            and isinstance(self.chat, bool)
        ):
            raise InvalidInput(f"the example has fields of other types or texts beyond {LONGEST} characters")
