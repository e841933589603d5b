"""Lexical ladder: the accuracy of a choice beside what is left of it where words cannot give the label away.

The first rung is the held-out accuracy itself. The second is that of the same predictions on statements that hold none
of the contrast words of the folds that their probe was fitted on: nothing is fitted for it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.probe.selection import SelectedProbe
from pipelines.statements.contrast_words import contrast_words, holds_any
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table
from registry.checkpoints import Checkpoint

IN_DISTRIBUTION, WITHOUT_WORDS = "in distribution", "no shared contrast words"
FEWEST_STATEMENTS = 20
CHANCE = 0.5
SHOWN_WORDS = 5
LADDER_COLUMNS = checkpoint_columns(
    "dimension", "layer", "rung", "accuracy", "accuracy_low", "accuracy_high", "n", "stands",
    "detail",
)  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """One rung of a ladder."""

    name: str
    accuracy: Estimate | None
    """``None`` where fewer than 20 statements, or one class, are left."""
    n: int
    detail: str

    @property
    def stands(self) -> str:
        """Whether accuracy is surely above chance here."""
        if self.accuracy is None:
            return "cannot be told"
        return "yes" if self.accuracy.low > CHANCE else "no"

    def __str__(self) -> str:
        value = f"{self.accuracy} (n = {self.n})" if self.accuracy else f"cannot be told (n = {self.n})"
        return f"{value} {self.name}"


@dataclass(frozen=True)
class Ladder:
    """The rungs of the choice made for one dimension."""

    probe: SelectedProbe
    rungs: tuple[Rung, ...]

    @property
    def is_lexical(self) -> bool:
        """Whether it stands on its first rung alone; a rung of which it cannot be told is not one it falls from."""
        first, *further = (rung.stands for rung in self.rungs)
        return first == "yes" and "no" in further and "yes" not in further

    def __str__(self) -> str:
        lexical = ": lexical, it stands on words alone" if self.is_lexical else ""
        words = self.rungs[-1].detail
        return f"{self.probe.result.dimension}: {'; '.join(map(str, self.rungs))} ({words}){lexical}"


def lexical_ladder(probe: SelectedProbe, statements: LabelledStatements, protocol: FittingProtocol) -> Ladder:
    """The ladder of a choice, on the folds that it was made and tested on."""
    splits = split_statements(statements, protocol)
    rows = splits.test_rows
    kept, words = np.zeros(probe.right.shape, bool), Counter[str]()
    for seed, folds in enumerate(splits.folds):
        for fold in splits.tested:
            train, tested = np.flatnonzero(folds != fold), np.flatnonzero(folds[rows] == fold)
            telling = contrast_words([statements.texts[row] for row in train], statements.labels[train])
            words.update(dict(zip(telling, range(len(telling), 0, -1), strict=True)))
            kept[seed, tested] = ~holds_any([statements.texts[rows[place]] for place in tested], telling)
    detail = f"such as {', '.join(word for word, _ in words.most_common(SHOWN_WORDS))}" if words else "there are none"
    first = Rung(IN_DISTRIBUTION, probe.accuracy, probe.accuracy.n, "")
    return Ladder(probe, (first, _without(kept, probe, statements.groups[rows], statements.labels[rows], detail)))


def _without(kept: np.ndarray, probe: SelectedProbe, groups: np.ndarray, labels: np.ndarray, detail: str) -> Rung:
    """Each statement that is left for any seed counts once, with its mean over those seeds."""
    left = kept.any(axis=0)
    n = int(left.sum())
    if n < FEWEST_STATEMENTS or len(np.unique(labels[left])) < 2:
        return Rung(WITHOUT_WORDS, None, n, detail)
    right = (probe.right * kept).sum(axis=0)[left] / kept.sum(axis=0)[left]
    return Rung(WITHOUT_WORDS, GroupBootstrap(groups[left], fitted=True).proportion(right), n, detail)


def ladder_table(ladders: Iterable[Ladder]) -> pd.DataFrame:
    """``ladder.csv``: every rung of every dimension's choice."""
    rows: list[tuple[Checkpoint, tuple[object, ...]]] = []
    for ladder in ladders:
        result = ladder.probe.result
        for rung in ladder.rungs:
            estimate = rung.accuracy
            cells = (None,) * 3 if estimate is None else (estimate.value, estimate.low, estimate.high)
            row = (result.dimension, ladder.probe.layer, rung.name, *cells, rung.n, rung.stands, rung.detail)
            rows.append((result.checkpoint, row))
    return checkpoint_table(rows, LADDER_COLUMNS)
