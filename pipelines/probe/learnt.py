"""Learnt statements: from which checkpoint on the held-out probe of one layer is right about each statement."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from pipelines.probe.result import UnitResult
from pipelines.probe.selection import Selection
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from pipelines.sweep.unit import points_along
from registry.checkpoints import Checkpoint

NEVER = "never"
LEARNT_COLUMNS = (
    "model", "dimension", "statement", "trustworthy", "layer", "learnt", "revision", "step", "right_share",
    "random_init",
)  # fmt: skip
"""``learnt`` is the checkpoint from which on every probe is right, ``right_share`` the share of checkpoints with a
right one. ``random_init`` says whether the probe of the random initialisation is right; at chance half of them are."""


def learnt_table(
    selection: Selection, statements: Mapping[str, LabelledStatements], protocol: FittingProtocol
) -> pd.DataFrame:
    """``learnt.csv``: a row for each tested statement, at the layer that is best over training.

    One layer for all checkpoints, so that what changes is training. Checkpoints are those of the first stage, each set
    of weights once.
    """
    rows: list[tuple[object, ...]] = []
    for dimension, labelled in statements.items():
        layer = selection.best[dimension].layer
        along = points_along([probe.result for probe in selection.layers_of(dimension)])
        tested = labelled.take(split_statements(labelled, protocol).test_rows)
        right = np.stack([is_right(result, layer, tested.labels) for result in along])
        control, learnt = is_right(selection.initial[dimension].result, layer, tested.labels), learnt_at(right)
        for row, text in enumerate(tested.texts):
            checkpoint = None if learnt[row] < 0 else along[learnt[row]].checkpoint
            when = (NEVER, None, None) if checkpoint is None else _named(checkpoint)
            counted = (float(right[:, row].mean()), bool(control[row]))
            model = along[0].checkpoint.model
            rows.append((model, dimension, text, bool(tested.labels[row]), layer, *when, *counted))
    return pd.DataFrame(rows, columns=list(LEARNT_COLUMNS)).astype({"step": "Int64"})


def _named(checkpoint: Checkpoint) -> tuple[str, str, int]:
    return checkpoint.label, checkpoint.revision, checkpoint.step


def is_right(result: UnitResult, layer: int, labels: Bool[np.ndarray, " n_test"]) -> Bool[np.ndarray, " n_test"]:
    """Whether the held-out probability, as the mean over seeds, is on the label's side."""
    probabilities = result.probabilities[:, result.layers.index(layer)].mean(axis=0)
    right: Bool[np.ndarray, " n_test"] = (probabilities > 0.5) == labels
    return right


def learnt_at(right: Bool[np.ndarray, "checkpoints n"]) -> Int64[np.ndarray, " n"]:
    """The first checkpoint from which on all are right; −1 for a statement that is wrong at the last one."""
    stays = np.logical_and.accumulate(right[::-1])[::-1]
    return np.where(stays[-1], stays.argmax(axis=0), -1)
