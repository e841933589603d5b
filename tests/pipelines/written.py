"""Answers as a model with a token for each word would have written them."""

from collections.abc import Sequence

from pipelines.model_io.continuations import Answers


def written(texts: Sequence[str]) -> Answers:
    return Answers(tuple(texts), tuple(len(text.split()) for text in texts))
