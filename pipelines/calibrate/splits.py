"""Splits of what is held out: the half that calibration chooses on, and the half that it is tested on."""

from collections.abc import Collection
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Int64

from pipelines.behaviours.behaviour import Behaviour
from pipelines.calibrate.effects import MeasuredProse, Texts
from pipelines.calibrate.writing import Writing
from pipelines.estimators.estimate import FEWEST_GROUPS
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.prose import prose_for
from pipelines.statements.splits import group_folds
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import N_FOLDS, FittingProtocol
from registry.errors import InvalidInput
from serving.model.language_model import LanguageModel

PROSE_SENTENCES = 100
"""In each half: a perplexity ratio is known to a percent or two, since both models read the same."""

PROMPTS = 120
"""To write answers to in each half, where a behaviour has so many."""
HALVES: tuple[Literal["validation", "test"], ...] = ("validation", "test")


def calibration_test(statements: LabelledStatements, protocol: FittingProtocol) -> LabelledStatements:
    """The half that calibration looks at once, after it has chosen; an evaluation may score it."""
    return calibration_halves(statements, protocol)[1]


def calibration_halves(
    statements: LabelledStatements, protocol: FittingProtocol
) -> tuple[LabelledStatements, LabelledStatements]:
    """Validation and test: halves of the statements that registered directions are not fitted on.

    Where there are subgroups they are what is halved, and the groups of each half: whole groups were held out before.
    """
    held_out = statements.take(np.flatnonzero(split_statements(statements, protocol).folds[0] == 0))
    held_out = replace(held_out, groups=_finest(held_out), subgroups=None, split=None)
    sides = group_folds(held_out.groups, held_out.labels, 2, seed=0)
    validation, test = (held_out.take(np.flatnonzero(sides == side)) for side in (0, 1))
    for half in (validation, test):
        _require_groups(half)
    return validation, test


def prose_halves(
    model: LanguageModel, seen: Collection[str], layers: Collection[int]
) -> tuple[MeasuredProse, MeasuredProse]:
    """Validation and test prose, none of it among the ``seen`` texts, read unsteered; ``layers`` will be steered."""
    validation, test = (MeasuredProse.measured(model, prose_for(use, seen)[:PROSE_SENTENCES], layers) for use in HALVES)
    return validation, test


def measured_halves(
    model: LanguageModel,
    statements: LabelledStatements,
    prose: tuple[MeasuredProse, MeasuredProse],
    protocol: FittingProtocol,
    behaviour: Behaviour | None = None,
    layers: Collection[int] = (),
) -> tuple[Texts, Texts]:
    """Validation and test, read unsteered, each with its ``prose``; ``layers`` will be steered.

    With a ``behaviour`` each has prompts of it too.
    """
    halves: list[Texts] = []
    for use, half, of_half in zip(HALVES, calibration_halves(statements, protocol), prose, strict=True):
        writing = None
        if behaviour is not None:
            writing = Writing.measured(model, behaviour, behaviour.of(use, PROMPTS), always=use == "test")
        halves.append(Texts.measured(model, half.texts, half.labels, half.groups, of_half, writing, layers))
    validation, test = halves
    return validation, test


def _require_groups(half: LabelledStatements) -> None:
    """Raise ``InvalidInput`` for a half that holds one group of a class: it says nothing of other groups."""
    fewest = min(len(np.unique(half.groups[half.labels == label])) for label in (False, True))
    if fewest < FEWEST_GROUPS:
        raise InvalidInput(
            f"{half.source} leaves {fewest} group of a class in a half of its held-out statements, which says nothing "
            f"of other groups: give statements of each class in at least {2 * FEWEST_GROUPS * N_FOLDS} groups"
        )


def _finest(statements: LabelledStatements) -> Int64[np.ndarray, " n"]:
    return statements.groups if statements.subgroups is None else statements.subgroups
