"""Example: a prompt at which steering a vector shows, with both answers, as one text."""

import json
from dataclasses import asdict, dataclass

from registry.errors import CorruptFile

LONGEST = 4000
"""Characters of a prompt or answer."""


@dataclass(frozen=True)
class Example:
    """A prompt and what the model wrote after it, greedily, unsteered and steered. Chosen to show, not typical."""

    prompt: str
    chat: bool
    """Whether it was sent as a message of a chat, or as text to go on with."""
    strength: float
    max_tokens: int
    unsteered: str
    steered: str
    tried: int = 1
    """Prompts that it was chosen of."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Example":
        """The inverse of ``to_json``. Raises ``CorruptFile`` for anything else."""
        try:
            example = cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise CorruptFile(f"the example cannot be read ({error}); export the vector again") from error
        texts = (example.prompt, example.unsteered, example.steered)
        numbers = (example.strength, example.max_tokens, example.tried)
        if not (
            all(isinstance(text, str) and len(text) <= LONGEST for text in texts)
            and all(isinstance(number, int | float) for number in numbers)
            and isinstance(example.chat, bool)
        ):
            raise CorruptFile(f"the example has fields of other types or texts beyond {LONGEST} characters")
        return example
