"""Equal weights: which of the checkpoints that share them have a step that is disputed."""

from collections.abc import Mapping
from itertools import groupby

from registry.checkpoints import MAIN, Checkpoint


def disputed(weights: Mapping[Checkpoint, str]) -> frozenset[Checkpoint]:
    """The checkpoints whose step is disputed: others of their stage have equal weights, and yet others lie between.

    Training does not return to weights that it left, so at least one of them is not what its name says, and its weights
    do not tell which. Neighbours may be equal, as while a warm-up begins at a rate of 0. ``main`` ends every stage.
    ``weights`` names those of each checkpoint, in the order of training; an empty name is of unknown ones.
    """
    end = [name for checkpoint, name in weights.items() if checkpoint.stage == MAIN]
    found = set()
    for line in dict.fromkeys(checkpoint.line for checkpoint in weights if checkpoint.stage != MAIN):
        members = {checkpoint: name for checkpoint, name in weights.items() if checkpoint.line == line}
        runs = [name for name, _ in groupby((*members.values(), *end))]
        found |= {checkpoint for checkpoint, name in members.items() if name and runs.count(name) > 1}
    return frozenset(found)
