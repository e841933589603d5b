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

    Its pieces join to the text of the whole answer. Stop texts are found in what is shown, and in what it would be if
    special tokens were written by their names: ``<|im_start|>user`` ends an answer before that token.
    """

    def __init__(self, vocabulary: TokenBytes, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self.stopped = False
        """Whether a stop text has come."""
        self._vocabulary, self._stop = vocabulary, stop
        self._previous: int | None = None
        self._decoder = utf8_decoder()
        self._held = self._pieces = ""
        self._names: list[tuple[int, str]] = []
        """Names of special tokens within the text that is held, each with its place."""
        for token in prompt[-CONTEXT:]:
            self._decoded(token)
        self.take_piece()

    def add(self, token: int) -> str:
        """The text that may be shown now that ``token`` is there."""
        self._held += self._decoded(token)
        if not self._stop:
            return self._shown(len(self._held))
        if token in self._vocabulary.special:
            self._names.append((len(self._held), self._vocabulary.label(token)))
        text = self._released()
        if self.stopped and token in self._vocabulary.special:  # bytes of a character that the token has cut off
            text += self._ended()
        return text

    def flush(self) -> str:
        """The text that was held back, now that nothing follows."""
        return self._shown(len(self._held)) + self._ended()

    def take_piece(self) -> str:
        """What tokens have added to the text since the last call, whether it may be shown or not."""
        piece, self._pieces = self._pieces, ""
        return piece

    def _decoded(self, token: int) -> str:
        content = self._vocabulary.of(token, self._previous)
        if token not in self._vocabulary.special:
            self._previous = token
        text = self._decoder.decode(content)
        self._pieces += text
        return text

    def _ended(self) -> str:
        """What is left of a character that is not whole."""
        rest = self._decoder.decode(b"", final=True)
        self._pieces += rest
        return rest

    def _shown(self, place: int) -> str:
        """The held text up to ``place``, which is held no longer."""
        text, self._held = self._held[:place], self._held[place:]
        return text

    def _released(self) -> str:
        """The held text before a stop text, or as far as none can begin; names of special tokens may belong to one."""
        places, place = _sought(self._held, self._stop)
        if self._names:
            named, origins = self._with_names()
            amid, begin = _sought(named, self._stop)
            places += [origins[found] for found in amid]
            place = min(place, origins[begin])
            if begin < len(named) or place < len(self._held):  # names part what stands before them from what comes
                longest = max(map(len, self._stop))  # behind so many names nothing goes on that stands before them
                self._names = [(at - place, name) for at, name in self._names if at >= place][-longest:]
            else:
                self._names = []
        self.stopped = bool(places)
        return self._shown(min(places, default=place))

    def _with_names(self) -> tuple[str, list[int]]:
        """The held text with the names in it, and where each of its characters, and its end, stands without them."""
        named, origins, begin = "", list[int](), 0
        for at, name in self._names:
            named += self._held[begin:at] + name
            origins += [*range(begin, at), *([at] * len(name))]
            begin = at
        return named + self._held[begin:], [*origins, *range(begin, len(self._held) + 1)]


def _sought(text: str, stops: Sequence[str]) -> tuple[list[int], int]:
    """Where stop texts stand in ``text``, and from where on its end may begin one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return places, len(text) - max(_overlap(text, stop) for stop in stops)


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` may begin ``stop``."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
