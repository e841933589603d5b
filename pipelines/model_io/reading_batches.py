"""Reading batches: texts in forward passes of a model, and where in them each of their tokens lies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipelines.model_io.batches import even_batches, padded
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

PASSES = 4
"""On CPUs passes come by so many, where there are enough rows: cores that take one each end together."""
MANY_TOKENS = 4096
"""Of which passes are about even whatever the size of a tree."""
ATTENDED = 1000
"""In a row of so many tokens attention takes about as long as all else; measured on one core of an AMD EPYC."""


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
    if not sequences:
        return iter(())
    multiple = PASSES if model.device.type == "cpu" else 1
    alone = Layout.of([len(sequence) for sequence in sequences], tokens_per_batch, multiple)
    trees, shared = _best_trees(sequences, tokens_per_batch, multiple)
    is_windowed = max(map(len, sequences), default=0) > window_of(model.network)
    if shared.cost > WORTH * alone.cost or is_windowed or not reads_trees(model.network):
        return _padded_batches(model, sequences, alone)
    return _tree_batches(model, trees, shared)


@dataclass(frozen=True, eq=False)
class Layout:
    """Rows of tokens in passes."""

    passes: Sequence[Int64[np.ndarray, " n"]]
    """Numbers of the rows of each, the longest first."""
    cost: float
    """Of all passes, if each took as long as the largest: in tokens, and what they attend to."""

    @classmethod
    def of(cls, lengths: Sequence[int], tokens_per_batch: int, multiple: int) -> "Layout":
        passes = even_batches(lengths, tokens_per_batch, multiple)
        longest = [lengths[rows[0]] for rows in passes]
        costs = [len(rows) * length * (1 + length / ATTENDED) for rows, length in zip(passes, longest, strict=True)]
        return cls(passes, len(costs) * max(costs))


def _best_trees(
    sequences: Sequence[Sequence[int]], tokens_per_batch: int, multiple: int
) -> tuple[Sequence[PrefixTree], Layout]:
    """Of trees of several sizes those that are read soonest; of many texts fewer sizes are tried."""
    tried = TOKENS_PER_ROW if sum(map(len, sequences)) < MANY_TOKENS else TOKENS_PER_ROW[2::4]
    sizes = sorted({min(size, tokens_per_batch) for size in tried})
    forests = [prefix_trees(sequences, size) for size in sizes]
    layouts = [Layout.of([len(tree.tokens) for tree in trees], tokens_per_batch, multiple) for trees in forests]
    return min(zip(forests, layouts, strict=True), key=lambda each: each[1].cost)


def _tree_batches(model: LanguageModel, trees: Sequence[PrefixTree], layout: Layout) -> Iterator[ReadingBatch]:
    for chosen in layout.passes:
        some = [trees[number] for number in chosen]
        inputs = tree_inputs(some, model.dtype, model.device)
        width = inputs["input_ids"].shape[1]
        paths = [(number, row * width, path) for row, tree in enumerate(some) for number, path in tree.paths.items()]
        lengths = torch.tensor([len(path) for *_, path in paths])
        places = torch.zeros(len(paths), int(lengths.max()), dtype=torch.long)
        for text, (_, start, path) in enumerate(paths):
            places[text, : len(path)] = start + torch.tensor(path)
        numbers = np.array([number for number, *_ in paths], np.int64)
        yield ReadingBatch(numbers, inputs, places, lengths)


def _padded_batches(model: LanguageModel, sequences: Sequence[Sequence[int]], layout: Layout) -> Iterator[ReadingBatch]:
    for rows in layout.passes:
        tokens, lengths = padded([sequences[row] for row in rows], model.device)
        places = torch.arange(tokens.numel()).reshape(tokens.shape)
        yield ReadingBatch(rows, {"input_ids": tokens}, places, lengths)
