"""Incremental detokenizer: text from tokens as they come, whole characters only, and nothing of a stop text.

It decodes bytes, not windows of tokens: ``tokenizers.DecodeStream`` holds back a run of invalid bytes until a character
follows, and raises "Invalid prefix encountered" where a character stood before the run (measured with 0.23.3).
"""

from collections.abc import Sequence

from serving.model.token_bytes import TokenBytes, utf8_decoder

CONTEXT = 4
"""Tokens of the prompt that a first character may have begun in."""


class IncrementalDetokenizer:
    """The text of an answer that may be shown so far, special tokens left out, up to the first stop text.

    Its pieces join to the text of the whole answer.
    """

    def __init__(self, vocabulary: TokenBytes, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self.stopped = False
        """Whether a stop text has come."""
        self._vocabulary, self._stop = vocabulary, stop
        self._stop_tokens = vocabulary.stop_tokens(stop) if stop else frozenset()
        self._previous: int | None = None
        self._decoder = utf8_decoder()
        self._held = ""
        for token in prompt[-CONTEXT:]:
            self._decoded(token)

    def add(self, token: int) -> str:
        """The text that may be shown now that ``token`` is there."""
        if token in self._stop_tokens:
            self.stopped = True
            return self._rest()
        self._held += self._decoded(token)
        return self._released()

    def flush(self) -> str:
        """The text that was held back, now that nothing follows."""
        return self._rest()

    def _decoded(self, token: int) -> str:
        content = self._vocabulary.of(token, self._previous)
        if token not in self._vocabulary.special:
            self._previous = token
        return self._decoder.decode(content)

    def _rest(self) -> str:
        text, self._held = self._held + self._decoder.decode(b"", final=True), ""
        return text

    def _released(self) -> str:
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
