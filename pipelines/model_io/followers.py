"""Followers: the tokens whose likelihoods a reading asks for, each once, however many texts begin with it.

The last token of a text is followed by none, so that it is not run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from pipelines.model_io.reading_batches import ReadingBatch, reading_batches
from serving.model.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class FollowerBatch:
    """One forward pass over texts without their last tokens, and what follows each of the tokens that it runs."""

    reading: ReadingBatch
    texts: Int64[np.ndarray, " n"]
    """Numbers of the texts."""
    places: Int64[Tensor, " followed"]
    """Of the tokens that are followed, in order."""
    rows: Int64[Tensor, " m"]
    """By follower, which of ``places`` it follows, in order."""
    tokens: Int64[Tensor, " m"]
    """Of the followers."""
    of_texts: Int64[Tensor, "n longest"]
    """Which followers each text consists of, but for its first token; ``m`` is none."""

    @classmethod
    def of(
        cls, reading: ReadingBatch, texts: Int64[np.ndarray, " n"], sequences: Sequence[Sequence[int]]
    ) -> "FollowerBatch":
        tokens = torch.zeros_like(reading.places)
        for row, number in enumerate(texts):
            tokens[row, : reading.lengths[row]] = torch.tensor(sequences[number][1:])
        real = torch.arange(tokens.shape[1]) < reading.lengths[:, None]
        size = int(tokens.max()) + 1
        pairs = (reading.places[real] * size + tokens[real]).numpy()
        followers, numbers = np.unique(pairs, return_inverse=True)
        places, rows = np.unique(followers // size, return_inverse=True)
        of_texts = torch.full_like(tokens, len(followers))
        of_texts[real] = torch.from_numpy(numbers)
        followed, own, next_tokens = map(torch.from_numpy, (places, rows, followers % size))
        return cls(reading, texts, followed, own, next_tokens, of_texts)

    def totals(self, likely: Float[Tensor, " m"]) -> Float64[np.ndarray, " n"]:
        """Of each text, the sum over its tokens but the first of what is ``likely`` by follower."""
        known = torch.cat([likely.cpu().double(), torch.zeros(1, dtype=torch.float64)])
        return known[self.of_texts].sum(dim=1).numpy()


def follower_batches(
    model: LanguageModel, sequences: Sequence[Sequence[int]], tokens_per_batch: int
) -> Iterator[FollowerBatch]:
    """All ``sequences`` but those of one token, in which nothing follows, in passes as of ``reading_batches``."""
    numbers = np.array([number for number, sequence in enumerate(sequences) if len(sequence) > 1], np.int64)
    readings = reading_batches(model, [sequences[number][:-1] for number in numbers], tokens_per_batch)
    return (FollowerBatch.of(reading, numbers[reading.rows], sequences) for reading in readings)
