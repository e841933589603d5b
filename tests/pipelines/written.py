"""Answers as a model with a token for each word would have written them."""

from collections.abc import Sequence
from zlib import crc32

from pipelines.model_io.continuations import Answers


def written(texts: Sequence[str]) -> Answers:
    return Answers(tuple(texts), tuple(tuple(crc32(word.encode()) for word in text.split()) for text in texts))
