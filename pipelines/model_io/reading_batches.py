"""Reading batches: texts in forward passes of a model, and where in them each of their tokens lies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipelines.model_io.batches import batches, padded
from pipelines.model_io.prefix_trees import (
    TOKENS_PER_ROW,
    WORTH,
    PrefixTree,
    prefix_trees,
    reads_trees,
    tree_inputs,
    window_of,
)
from serving.model.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class ReadingBatch:
    """One forward pass. Places count the tokens of all its rows, one row after the other."""

    rows: Int64[np.ndarray, " n"]
    """Numbers of the texts that it reads to their ends."""
    inputs: Mapping[str, Tensor]
    """What the trunk is called with; texts alone need no mask, for what is padded follows them."""
    places: Int64[Tensor, "n longest"]
    """Of each text's tokens, on the CPU; what is beyond its length is any place."""
    lengths: Int64[Tensor, " n"]
    followers: Int64[Tensor, " m"]
    """Places of the tokens that follow another one, each once."""
    parents: Int64[Tensor, " m"]
    """Places of the tokens that they follow."""

    @property
    def last_places(self) -> Int64[Tensor, " n"]:
        """Of each text's last token."""
        return self.places[torch.arange(len(self.lengths)), self.lengths - 1]

    def at(self, places: Int64[Tensor, "..."], states: Float[Tensor, "batch seq d"]) -> Float[Tensor, "... d"]:
        """What lies at ``places``, on the device of ``states``."""
        return states.flatten(0, 1)[places.to(states.device)]


def reading_batches(
    model: LanguageModel, sequences: Sequence[Sequence[int]], tokens_per_batch: int
) -> Iterator[ReadingBatch]:
    """All ``sequences``, in passes of at most ``tokens_per_batch`` padded tokens, the longest first.

    What texts share at their beginning is read once where that is worth it and ``model`` can do so; the same texts are
    always read in the same passes. Whether it can is found out by running it, before the first pass is asked for: the
    passes may be taken while the model is steered or read.
    """
    trees = prefix_trees(sequences, min(TOKENS_PER_ROW, tokens_per_batch))
    held = sum(len(tree.tokens) for tree in trees)
    is_windowed = max(map(len, sequences), default=0) > window_of(model.network)
    if held > WORTH * sum(map(len, sequences)) or is_windowed or not reads_trees(model.network):
        return _padded_batches(model, sequences, tokens_per_batch)
    return _tree_batches(model, trees, tokens_per_batch)


def _tree_batches(model: LanguageModel, trees: Sequence[PrefixTree], tokens_per_batch: int) -> Iterator[ReadingBatch]:
    for chosen in batches([len(tree.tokens) for tree in trees], tokens_per_batch):
        some = [trees[number] for number in chosen]
        inputs = tree_inputs(some, model.dtype, model.device)
        width = inputs["input_ids"].shape[1]
        paths = [(number, row * width, path) for row, tree in enumerate(some) for number, path in tree.paths.items()]
        lengths = torch.tensor([len(path) for *_, path in paths])
        places = torch.zeros(len(paths), int(lengths.max()), dtype=torch.long)
        for text, (_, start, path) in enumerate(paths):
            places[text, : len(path)] = start + torch.tensor(path)
        pairs = [
            (row * width + place, row * width + parent)
            for row, tree in enumerate(some)
            for place, parent in enumerate(tree.parents)
            if place != parent
        ]
        followers, parents = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
        numbers = np.array([number for number, *_ in paths], np.int64)
        yield ReadingBatch(numbers, inputs, places, lengths, followers, parents)


def _padded_batches(
    model: LanguageModel, sequences: Sequence[Sequence[int]], tokens_per_batch: int
) -> Iterator[ReadingBatch]:
    for rows in batches([len(sequence) for sequence in sequences], tokens_per_batch):
        tokens, lengths = padded([sequences[row] for row in rows], model.device)
        places = torch.arange(tokens.numel()).reshape(tokens.shape)
        followers = places[:, 1:][torch.arange(1, tokens.shape[1]) < lengths[:, None]]
        yield ReadingBatch(rows, {"input_ids": tokens}, places, lengths, followers, followers - 1)
