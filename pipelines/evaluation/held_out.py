"""The statements that an evaluation may score: those that nothing was fitted or calibrated on."""

from collections.abc import Mapping

import numpy as np

from pipelines.evaluation.conditions import Subject
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.splits import group_folds
from pipelines.sweep.folds import split_statements
from pipelines.sweep.settings import ProbeSettings
from registry.errors import Mismatch


def held_out_for(
    subject: Subject, statements: Mapping[str, LabelledStatements], settings: ProbeSettings
) -> LabelledStatements:
    """Statements that the champion was neither fitted nor calibrated on.

    Of the statements that it was made from, the half that calibration kept for its test; all of any other set. Raises
    ``Mismatch`` for a different draw of the same source, of which nobody can say what was fitted on.
    """
    mine, lineage = statements[subject.dimension.name], subject.champion.vector.lineage
    if lineage.statements_digest == mine.digest:
        return calibration_test(mine, settings)
    if lineage.statements_source == mine.source:
        raise Mismatch(
            f"{subject.champion.reference} was fitted on another draw of {mine.source} (digest "
            f"{lineage.statements_digest[:12]}, now {mine.digest[:12]}); give the data and limit it was calibrated with"
        )
    return mine


def calibration_test(statements: LabelledStatements, settings: ProbeSettings) -> LabelledStatements:
    """The half, by group, that calibration looks at once, after it has chosen."""
    held_out = np.flatnonzero(split_statements(statements, settings).folds[0] == 0)
    halves = group_folds(statements.groups[held_out], statements.labels[held_out], 2, seed=0)
    rows = held_out[halves == 1]
    return LabelledStatements(
        dimension=statements.dimension,
        texts=tuple(statements.texts[row] for row in rows),
        labels=statements.labels[rows],
        groups=statements.groups[rows],
        source=statements.source,
        as_released=statements.as_released,
    )
