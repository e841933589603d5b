"""Unit of work, one checkpoint and one dimension: what every experiment's result of one begins with."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pipelines.statements.labelled import LabelledStatements
from registry.checkpoints import Checkpoint
from registry.equal_weights import disputed
from registry.errors import InvalidInput
from serving.model.language_model import LanguageModel

SCHEMA_VERSION = 2
"""Raised when the meaning of a stored result changes, so that older ones are computed anew."""

UnitT = TypeVar("UnitT", bound="Unit")


@dataclass(frozen=True)
class Unit:
    """What one checkpoint was measured on in one dimension; an experiment's result adds what it found."""

    digest: str
    """Names the result by all that decides it."""
    checkpoint: Checkpoint
    weights_digest: str
    dimension: str
    statements_digest: str
    statements_source: str
    precision: str
    """The one that the model was computed in, such as ``float32``."""

    def seen_as(self: UnitT, checkpoint: Checkpoint, dimension: str, pooling: str) -> UnitT:  # noqa: ARG002
        """A stored result as who asks names it: equal files may have been measured at another step or path."""
        return replace(self, checkpoint=checkpoint, dimension=dimension)


def unit_fields(digest: str, model: LanguageModel, statements: LabelledStatements) -> dict[str, Any]:
    """The fields of a ``Unit``, for the result of an experiment that measured ``model`` on ``statements``."""
    return {
        "digest": digest,
        "checkpoint": model.checkpoint,
        "weights_digest": model.weights_digest,
        "dimension": statements.dimension,
        "statements_digest": statements.digest,
        "statements_source": statements.source,
        "precision": str(model.dtype).removeprefix("torch."),
    }


def twins(units: Iterable[Unit]) -> frozenset[Checkpoint]:
    """The checkpoints with the weights of an earlier one among ``units``, which are in the order of training.

    Each is the same model once more: no point of a curve over training, and no further candidate.
    """
    first: dict[str, Checkpoint] = {}
    return frozenset(
        unit.checkpoint for unit in units if first.setdefault(unit.weights_digest, unit.checkpoint) != unit.checkpoint
    )


def without_place(units: Iterable[Unit]) -> frozenset[Checkpoint]:
    """The checkpoints that are no points of a curve over training: ``twins``, and all whose step is disputed.

    The earliest of disputed steps would make an onset too early, and the latest too late.
    """
    listed = list(units)
    return twins(listed) | disputed({unit.checkpoint: unit.weights_digest for unit in listed})


def points_along(trained: Sequence[UnitT]) -> tuple[UnitT, ...]:
    """What onsets, phases and correlations are computed of: the first stage, each set of weights once.

    A step with the weights of an earlier one is no point of its own, nor one that is disputed, and steps of a later
    stage count from its start. Raises ``InvalidInput`` where nothing is left.
    """
    line, excluded = trained[0].checkpoint.line, without_place(trained)
    along = tuple(result for result in trained if result.checkpoint.line == line and result.checkpoint not in excluded)
    if not along:
        labels = " and ".join(dict.fromkeys(result.checkpoint.caption for result in trained))
        raise InvalidInput(
            f"no step is certain: {labels} of {trained[0].checkpoint.model} have weights that come back after others; "
            "choose others by `checkpoints`"
        )
    return along


def unit_digest(identity: str, statements_digest: str, settings: dict[str, str | int]) -> str:
    """Names a unit's result by all that decides it; ``identity`` stands for the checkpoint's weights."""
    content = {"schema": SCHEMA_VERSION, "checkpoint": identity, "statements": statements_digest, **settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
