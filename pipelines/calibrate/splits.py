"""The statements that an evaluation may score: those that nothing was fitted or calibrated on."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from pipelines.estimators.estimate import FEWEST_GROUPS
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.splits import group_folds
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import N_FOLDS, ProbeSettings
from registry.errors import InvalidInput


def calibration_test(statements: LabelledStatements, settings: ProbeSettings) -> LabelledStatements:
    """The half that calibration looks at once, after it has chosen."""
    return calibration_halves(statements, settings)[1]


def calibration_halves(
    statements: LabelledStatements, settings: ProbeSettings
) -> tuple[LabelledStatements, LabelledStatements]:
    """Validation and test: halves of the statements that registered directions are not fitted on.

    Where there are subgroups they are what is halved, and the groups of each half: whole groups were held out before.
    """
    held_out = statements.take(np.flatnonzero(split_statements(statements, settings).folds[0] == 0))
    held_out = replace(held_out, groups=_finest(held_out), subgroups=None, split=None)
    sides = group_folds(held_out.groups, held_out.labels, 2, seed=0)
    validation, test = (held_out.take(np.flatnonzero(sides == side)) for side in (0, 1))
    for half in (validation, test):
        fewest = min(len(np.unique(half.groups[half.labels == kind])) for kind in (False, True))
        if fewest < FEWEST_GROUPS:
            raise InvalidInput(
                f"{statements.source} leaves {fewest} group of a class in a half of its held-out statements, which says "
                f"nothing of other groups: give statements of each class in at least {2 * FEWEST_GROUPS * N_FOLDS} groups"
            )
    return validation, test


def _finest(statements: LabelledStatements) -> Int64[np.ndarray, " n"]:
    return statements.groups if statements.subgroups is None else statements.subgroups
