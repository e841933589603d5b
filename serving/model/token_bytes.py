"""Token bytes: the bytes that each token adds to a text. Tokens are bytes first, and characters may span several."""

import codecs
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

Kind = Literal["byte-level", "sentencepiece", "words"]
"""How a vocabulary writes bytes: each as a letter (GPT-2, Llama 3), as ``▁`` and ``<0xE2>`` (Llama 2), or not."""

SPACE = "▁"


class TokenBytes:
    """The bytes of a tokenizer's tokens, each looked up once.

    Bytes of an answer's tokens join to its text. Special tokens have none, as they are left out of texts.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._decoders = _decoders(tokenizer)
        self._bytes: dict[int, bytes] = {}
        self._labels: dict[int, str] = {}
        added = tokenizer.added_tokens_decoder.items()
        self.special = frozenset(tokenizer.all_special_ids) | {token for token, entry in added if entry.special}

    @cached_property
    def kind(self) -> Kind:
        names = {decoder["type"] for decoder in self._decoders}
        if "ByteLevel" in names:
            return "byte-level"
        return "sentencepiece" if names & {"ByteFallback", "Metaspace", "Replace"} else "words"

    def of(self, token: int, previous: int | None = None) -> bytes:
        """What ``token`` adds after ``previous``, which counts only where tokens are words joined by spaces."""
        if self.kind == "words" and token not in self.special:
            return self._as_word(token, previous)
        if token not in self._bytes:
            self._bytes[token] = b"" if token in self.special else self._looked_up(token)
        return self._bytes[token]

    def label(self, token: int) -> str:
        """A name for one token on its own: its text, or ``bytes:\\xe6\\xbc`` where it is part of a character."""
        if token not in self._labels:
            self._labels[token] = self._new_label(token)
        return self._labels[token]

    def _new_label(self, token: int) -> str:
        if token in self.special:
            return str(self._tokenizer.convert_ids_to_tokens(token))
        content = self.of(token)
        if not self._is_byte(token):
            try:
                return content.decode()
            except UnicodeDecodeError:
                pass
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)

    def label_bytes(self, token: int) -> bytes:
        """The bytes of one token on its own; of a special token those of its name."""
        return self.label(token).encode() if token in self.special else self.of(token)

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """What each token adds to the text. A character of several tokens comes with the last of them."""
        decoder = utf8_decoder()
        pieces, previous = [], None
        for token in tokens:
            pieces.append(decoder.decode(self.of(token, previous)))
            previous = token if token not in self.special else previous
        if pieces:
            pieces[-1] += decoder.decode(b"", final=True)
        first = next((place for place, token in enumerate(tokens) if token not in self.special), None)
        if first is not None and self._strips_first_space:
            pieces[first] = pieces[first].removeprefix(" ")
        return pieces

    @cached_property
    def _strips_first_space(self) -> bool:
        return self.kind == "sentencepiece" and any(
            decoder["type"] == "Strip" or (decoder["type"] == "Metaspace" and decoder.get("prepend_scheme") != "never")
            for decoder in self._decoders
        )

    @cached_property
    def _added(self) -> frozenset[int]:
        return frozenset(self._tokenizer.added_tokens_decoder)

    def _looked_up(self, token: int) -> bytes:
        name = self._tokenizer.convert_ids_to_tokens(token)
        if name is None:  # a padded vocabulary
            return b""
        if token in self._added:
            return str(name).encode()
        if self.kind == "byte-level":
            letters = _byte_letters()
            if all(letter in letters for letter in name):
                return bytes(letters[letter] for letter in name)
            return str(name).encode()
        if self._is_byte(token):
            return bytes([int(name[3:5], 16)])
        return str(name).replace(SPACE, " ").encode()

    def _is_byte(self, token: int) -> bool:
        """Whether a SentencePiece token stands for a byte by name."""
        name = self._tokenizer.convert_ids_to_tokens(token) if self.kind == "sentencepiece" else None
        return name is not None and len(name) == 6 and name.startswith("<0x") and name.endswith(">")

    def _as_word(self, token: int, previous: int | None) -> bytes:
        decode = self._tokenizer.decode
        if previous is None:
            return str(decode([token])).encode()
        before, after = str(decode([previous])), str(decode([previous, token]))
        return after[len(before) :].encode()


def utf8_decoder() -> codecs.IncrementalDecoder:
    """Whole characters from bytes as they come; bytes that are none become U+FFFD."""
    return codecs.getincrementaldecoder("utf-8")(errors="replace")


def _decoders(tokenizer: Any) -> list[dict[str, Any]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = None if backend is None else json.loads(backend.to_str())["decoder"]
    if decoder is None:
        return []
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


_LETTERS: dict[str, int] = {}


def _byte_letters() -> dict[str, int]:
    """The letters that stand for bytes in byte-level vocabularies: printable ones for themselves, others from 256."""
    if not _LETTERS:
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        _LETTERS.update({chr(byte): byte for byte in printable})
        _LETTERS.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return _LETTERS
