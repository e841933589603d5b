"""Prefix trees: texts that begin alike, laid into one row so that what they share is read once.

Each token of a row attends to the tokens on its way from the start, and has the position that it has in its text. So
the model computes of it what it computes of the text alone, up to rounding (as speculative decoding verifies a tree of
drafts: Miao et al. 2024, arXiv 2305.09781). Of packaged statements a third to a half of the tokens are left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from serving.model.residual_stream import decoder_blocks, recording

TOKENS_PER_ROW = range(40, 129, 4)
"""A row attends within itself: the longer it is the more is shared, and the more is masked."""
WORTH = 0.97
"""Trees are read where they cost no more than this of what texts alone do."""
PROBE = ((3, 4, 5, 6), (3, 4, 7), (3, 5, 4))
"""Texts of a tree by which it is found out whether a model can read one."""
TOLERANCES = {torch.float32: 1e-4}
LOW_PRECISION_TOLERANCE = 0.05
"""Of the length of a token's state: what it may differ by in other company."""

_readable: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@dataclass(eq=False)
class PrefixTree:
    """One row: the tokens of some texts, each beginning once."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """The place of the token before each; its own of a first one."""
    paths: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By number of a text, the places of its tokens."""

    def add(self, number: int, sequence: Sequence[int], before: tuple[int, ...]) -> tuple[int, ...]:
        """Add a text whose beginning lies at the places ``before``, and return its path."""
        path = list(before)
        for token in sequence[len(before) :]:
            place = len(self.tokens)
            self.tokens.append(token)
            self.parents.append(path[-1] if path else place)
            path.append(place)
        self.paths[number] = tuple(path)
        return self.paths[number]


def prefix_trees(sequences: Sequence[Sequence[int]], limit: int) -> list[PrefixTree]:
    """All ``sequences`` in trees of at most ``limit`` tokens, or of one longer text; the longest trees first."""
    trees = [PrefixTree()]
    last: Sequence[int] = ()
    path: tuple[int, ...] = ()
    for number in sorted(range(len(sequences)), key=lambda number: tuple(sequences[number])):
        sequence = sequences[number]
        before = path[: shared_tokens(last, sequence)]
        if trees[-1].tokens and len(trees[-1].tokens) + len(sequence) - len(before) > limit:
            trees.append(PrefixTree())
            before = ()
        last, path = sequence, trees[-1].add(number, sequence, before)
    return sorted(trees, key=lambda tree: -len(tree.tokens))


def shared_tokens(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def tree_inputs(trees: Sequence[PrefixTree], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """What a trunk is called with to read ``trees``, one a row; rows are padded by tokens that attend to themselves."""
    shape = len(trees), max(len(tree.tokens) for tree in trees)
    tokens, parents = np.zeros(shape, np.int64), np.tile(np.arange(shape[1]), (shape[0], 1))
    for row, tree in enumerate(trees):
        tokens[row, : len(tree.tokens)] = tree.tokens
        parents[row, : len(tree.tokens)] = tree.parents
    seen, positions = ways(parents)
    unseen = torch.zeros(shape[0], 1, shape[1], shape[1], dtype=dtype)
    unseen.masked_fill_(~torch.from_numpy(seen)[:, None], torch.finfo(dtype).min)
    inputs = {"input_ids": torch.from_numpy(tokens), "position_ids": torch.from_numpy(positions)}
    return {name: each.to(device, non_blocking=True) for name, each in {**inputs, "attention_mask": unseen}.items()}


def ways(
    parents: Int64[np.ndarray, "batch n"],
) -> tuple[Bool[np.ndarray, "batch n n"], Int64[np.ndarray, "batch n"]]:
    """Which tokens lie on the way to each, itself among them, and how many lie before it."""
    rows, places = np.arange(len(parents))[:, None], np.arange(parents.shape[1])
    seen = np.zeros((*parents.shape, parents.shape[1]), bool)
    above, positions = np.tile(places, (len(parents), 1)), np.zeros_like(parents)
    while True:
        seen[rows, places, above] = True
        further = parents[rows, above]
        moved = further != above
        if not moved.any():
            return seen, positions
        positions += moved
        above = further


def window_of(network: Any) -> float:
    """How many tokens back the network's narrowest layer attends; a tree's mask knows of no window."""
    config = network.config.get_text_config()
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((window for window in windows if window), default=math.inf)


def reads_trees(network: Any) -> bool:
    """Whether ``network`` computes the same of a tree as of its texts alone; found out by running it both ways.

    False where it makes positions or masks by itself (ALiBi), or has a state that passes through every token.
    """
    if network not in _readable:
        _readable[network] = _is_readable(network)
    return _readable[network]


@torch.inference_mode()
def _is_readable(network: Any) -> bool:
    weight = network.get_input_embeddings().weight
    if weight.shape[0] <= max(map(max, PROBE)):
        return False
    (tree,) = prefix_trees(PROBE, TOKENS_PER_ROW[0])
    try:
        together = _last_states(network, tree_inputs([tree], weight.dtype, weight.device))[0]
    except (AttributeError, TypeError, ValueError, RuntimeError, NotImplementedError):
        return False
    found, expected = [], []
    for number, path in tree.paths.items():
        found.append(together[list(path)])
        alone = torch.tensor([PROBE[number]], device=weight.device)
        expected.append(_last_states(network, {"input_ids": alone})[0])
    whole = torch.cat(expected)
    off = (torch.cat(found) - whole).norm(dim=-1) / whole.norm(dim=-1)
    return bool(off.max() <= TOLERANCES.get(weight.dtype, LOW_PRECISION_TOLERANCE))


def _last_states(network: Any, inputs: dict[str, Tensor]) -> Float[Tensor, "batch seq d_model"]:
    kept: list[Tensor] = []
    last = len(decoder_blocks(network)) - 1
    with recording(network, [last], lambda _layer, states: kept.append(states.float())):
        network.base_model(**inputs, use_cache=False)
    return kept[0]
