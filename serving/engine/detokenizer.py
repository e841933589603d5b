"""Incremental detokenizer: text from tokens as they come, whole characters only, and nothing of a stop text."""

from collections.abc import Sequence
from typing import Any

CONTEXT = 6
"""Tokens decoded before the new ones, so that spaces between words and joined characters come out right."""

REBASE = 24
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class IncrementalDetokenizer:
    """The text of an answer that may be shown so far.

    The pieces add up to how the tokenizer writes the answer behind its prompt, special tokens left out, up to the
    first stop text.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self.stopped = False
        """Whether a stop text has come."""
        self._tokenizer, self._stop = tokenizer, stop
        self._tokens = list(prompt[-CONTEXT:])
        self._decoded = self._decode()
        self._held = ""

    def add(self, token: int) -> str:
        """The text that may be shown now that ``token`` is there."""
        self._tokens.append(token)
        text = self._decode()
        if text.endswith(UNFINISHED):
            return ""
        self._held += text[len(self._decoded) :]
        self._decoded = text
        if len(self._tokens) > REBASE:
            self._tokens = self._tokens[-CONTEXT:]
            self._decoded = self._decode()
        return self._release()

    def flush(self) -> str:
        """What was held back, now that nothing follows."""
        text, self._held = self._held + self._decode()[len(self._decoded) :], ""
        self._decoded = self._decode()
        return text

    def _decode(self) -> str:
        return str(self._tokenizer.decode(self._tokens, skip_special_tokens=True))

    def _release(self) -> str:
        places = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            text, self._held = self._held[: min(places)], ""
            return text
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` may begin ``stop``."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
