"""Items sampled from many, the same ones every time."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def sample_items(items: Sequence[Item], limit: int, seed: int = 0) -> list[Item]:
    """``limit`` of ``items`` in their order, or all for 0."""
    chosen = np.random.default_rng(seed).permutation(len(items))[: limit or None]
    return [items[place] for place in sorted(chosen)]
