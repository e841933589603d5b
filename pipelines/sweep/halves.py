"""Halves of what is held out: the statements that calibration chooses on, and those that it is tested on."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from pipelines.estimators.estimate import FEWEST_GROUPS
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.splits import group_folds
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import N_FOLDS, FittingProtocol
from registry.errors import InvalidInput


def calibration_test(statements: LabelledStatements, protocol: FittingProtocol) -> LabelledStatements:
    """The half that calibration looks at once, after it has chosen; an evaluation may score it."""
    return calibration_halves(statements, protocol)[1]


def calibration_halves(
    statements: LabelledStatements, protocol: FittingProtocol
) -> tuple[LabelledStatements, LabelledStatements]:
    """Validation and test: halves of the statements that registered directions are not fitted on.

    Where there are subgroups they are what is halved, and the groups of each half: whole groups were held out before.
    Raises ``InvalidInput`` for a half that holds one group of a class: it says nothing of other groups.
    """
    held_out = statements.take(np.flatnonzero(split_statements(statements, protocol).folds[0] == 0))
    held_out = replace(held_out, groups=_finest(held_out), subgroups=None, split=None)
    sides = group_folds(held_out.groups, held_out.labels, 2, seed=0)
    validation, test = (held_out.take(np.flatnonzero(sides == side)) for side in (0, 1))
    for half in (validation, test):
        fewest = _fewest_groups(half)
        if fewest < FEWEST_GROUPS:
            raise InvalidInput(
                f"{half.source} leaves {fewest} group of a class in a half of its held-out statements, which says "
                "nothing of other groups: give statements of each class in at least "
                f"{2 * FEWEST_GROUPS * N_FOLDS} groups"
            )
    return validation, test


def able_to_calibrate(statements: Mapping[str, LabelledStatements]) -> list[str]:
    """The dimensions of which what is held out can be halved; that is the same for any number of seeds."""
    refused = _refused(statements)
    return [name for name in statements if name not in refused]


def require_halves(statements: Mapping[str, LabelledStatements]) -> None:
    """Raise ``InvalidInput`` for statements that cannot be halved, naming the dimensions that can be calibrated."""
    refused = _refused(statements)
    able = ",".join(name for name in statements if name not in refused)
    for error in refused.values():
        raise InvalidInput(f"{error}; or calibrate the others: dimensions={able}" if able else str(error)) from error


def _refused(statements: Mapping[str, LabelledStatements]) -> dict[str, InvalidInput]:
    """Why what is held out of a dimension cannot be halved, of those of which it cannot."""
    refused = {}
    for name, labelled in statements.items():
        try:
            calibration_halves(labelled, FittingProtocol())
        except InvalidInput as error:
            refused[name] = error
    return refused


def _fewest_groups(half: LabelledStatements) -> int:
    return min(len(np.unique(half.groups[half.labels == label])) for label in (False, True))


def _finest(statements: LabelledStatements) -> Int64[np.ndarray, " n"]:
    return statements.groups if statements.subgroups is None else statements.subgroups
