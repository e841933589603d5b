"""Texts as batches of tokens: tokenised alone, filled by length, padded on the right."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from registry.counts import counted
from registry.errors import InvalidInput
from serving.model.language_model import LanguageModel


def tokenise(model: LanguageModel, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, with the tokenizer's own special tokens and no template.

    Raises ``InvalidInput`` for a text without tokens and for one longer than the model's context.
    """
    sequences: list[list[int]] = model.tokenizer(list(texts))["input_ids"]
    limit = model.context_length
    for text, sequence in zip(texts, sequences, strict=True):
        if limit is not None and len(sequence) > limit:
            raise InvalidInput(
                f"a statement has {counted(len(sequence), 'token')} and {model.checkpoint.model} reads at most "
                f"{limit}: {text[:60]!r}…; shorten it or leave it out"
            )
        if not sequence:
            raise InvalidInput(f"the statement {text!r} has no tokens; leave it out")
    return sequences


def batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[Int64[np.ndarray, " batch"]]:
    """Row numbers, longest first (so that memory peaks at once), at most ``tokens_per_batch`` a batch when padded."""
    order = np.argsort(np.negative(lengths), kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens_per_batch // lengths[order[start]])
        yield order[start : start + size]
        start += size


def even_batches(lengths: Sequence[int], tokens_per_batch: int, multiple: int) -> list[Int64[np.ndarray, " batch"]]:
    """The same in about equally large batches, a ``multiple`` of them, or two: cores that take one each end together.

    There are fewer where there are not so many rows.
    """
    order = np.argsort(np.negative(lengths), kind="stable")
    longest_first = [lengths[row] for row in order]

    def count(limit: int) -> int:
        return sum(1 for _ in batches(longest_first, limit))

    fewest = count(tokens_per_batch)
    step = min(multiple, 2) if fewest <= multiple / 2 else multiple
    wanted = -(-fewest // step) * step
    limit = bisect_left(range(tokens_per_batch), -wanted, lo=1, key=lambda limit: -count(limit))
    return [order[lot] for lot in batches(longest_first, limit)]


def padded(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens ``[batch, seq]``, padded on the right, on ``device``; and the lengths, on the CPU."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    tokens = torch.zeros(len(sequences), int(lengths.max()), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
    return tokens.to(device, non_blocking=True), lengths
