"""A unit of work, one checkpoint and one dimension, and its result."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from registry.checkpoints import Checkpoint

SCHEMA_VERSION = 2
"""Raised when the meaning of a stored result changes, so that older ones are computed anew."""


class Unit(Protocol):
    """What was measured of one checkpoint on one dimension, by whatever experiment."""

    @property
    def digest(self) -> str:
        """Names it by all that decides it."""

    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def weights_digest(self) -> str: ...
    @property
    def dimension(self) -> str: ...
    @property
    def statements_digest(self) -> str: ...
    @property
    def statements_source(self) -> str: ...
    @property
    def precision(self) -> str: ...


UnitT = TypeVar("UnitT", bound=Unit)


def twins(units: Iterable[Unit]) -> frozenset[Checkpoint]:
    """The checkpoints with the weights of an earlier one among ``units``, which are in the order of training.

    Each is the same model once more: no point of a curve over training, and no further candidate.
    """
    first: dict[str, Checkpoint] = {}
    return frozenset(
        unit.checkpoint for unit in units if first.setdefault(unit.weights_digest, unit.checkpoint) != unit.checkpoint
    )


def points_along(trained: Sequence[UnitT]) -> tuple[UnitT, ...]:
    """What onsets, phases and correlations are computed of: the first stage, each set of weights once.

    A step with the weights of an earlier one is no point of its own, and steps of a later stage count from its start.
    """
    line, repeated = trained[0].checkpoint.line, twins(trained)
    return tuple(result for result in trained if result.checkpoint.line == line and result.checkpoint not in repeated)


def unit_digest(identity: str, statements_digest: str, settings: dict[str, str | int]) -> str:
    """Names a unit's result by all that decides it; ``identity`` stands for the checkpoint's weights."""
    content = {"schema": SCHEMA_VERSION, "checkpoint": identity, "statements": statements_digest, **settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
