"""Lexical ladder: the accuracy of a choice beside what is left of it where words cannot give the label away.

The first rung is the held-out accuracy itself. The second is that of the same predictions on statements that hold none
of the contrast words of the folds that their probe was fitted on: nothing is fitted for it. For the third and fourth
probes are fitted again, without the frame that they are read in, and read on another source of the dimension. A
threshold belongs to the source that it was fitted on, so the last rung is an AUROC, whose chance is .5 as well.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.probe.other_source import NO_SOURCE, OtherSource
from pipelines.probe.rungs import CHANCE, RungResult
from pipelines.probe.selection import SelectedProbe
from pipelines.statements.contrast_words import contrast_words, holds_any
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.signals import bootstrap_auroc
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table
from registry.checkpoints import Checkpoint
from registry.counts import counted

IN_DISTRIBUTION, WITHOUT_WORDS = "in distribution", "no shared contrast words"
REWORDED, ELSEWHERE = "reworded frames", "another source"
ACCURACY, AUROC = "accuracy", "AUROC"
FALLEN = ("no", "reversed")
"""At chance, or surely below it: read the wrong way round."""
NOT_READ = "not read, as the first rung does not stand"
FEWEST_STATEMENTS = 20
SHOWN_WORDS = 5
LADDER_COLUMNS = checkpoint_columns(
    "dimension", "layer", "rung", "measure", "value", "low", "high", "n", "stands", "detail", "lexical",
)  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """One rung of a ladder."""

    name: str
    value: Estimate | None
    """``None`` where fewer than 20 statements, or one class, are left."""
    n: int
    detail: str
    measure: str = ACCURACY

    @property
    def stands(self) -> str:
        """Whether it is surely above chance here."""
        if self.value is None:
            return "cannot be told"
        return "yes" if self.value.low > CHANCE else "reversed" if self.value.high < CHANCE else "no"

    def __str__(self) -> str:
        value = f"{self.value} (n = {self.n})" if self.value else "cannot be told"
        measure = "" if self.measure == ACCURACY else f"{self.measure} "
        reversed_ = ", reversed" if self.stands == "reversed" else ""
        return f"{self.name} {measure}{value}{reversed_}{f', {self.detail}' if self.detail else ''}"


@dataclass(frozen=True)
class Ladder:
    """The rungs of the choice made for one dimension."""

    probe: SelectedProbe
    rungs: tuple[Rung, ...]

    @property
    def dimension(self) -> str:
        return self.probe.result.dimension

    @property
    def is_lexical(self) -> bool:
        """Whether it stands on its first rung alone; a rung of which it cannot be told is not one it falls from."""
        return bool(self.fallen) and all(rung.stands != "yes" for rung in self.rungs[1:])

    @property
    def fallen(self) -> tuple[str, ...]:
        """The further rungs on which it is not above chance, of one that is above it on the first."""
        first, *further = self.rungs
        return tuple(rung.name for rung in further if rung.stands in FALLEN) if first.stands == "yes" else ()

    def __str__(self) -> str:
        verdict = "lexical, it stands on words alone" if self.is_lexical else f"not on {' and '.join(self.fallen)}"
        ending = f"\n  {verdict}" if self.fallen else ""
        return "\n  ".join((f"{self.dimension}:", *map(str, self.rungs))) + ending


def lexical_ladder(
    probe: SelectedProbe,
    statements: LabelledStatements,
    protocol: FittingProtocol,
    read: Sequence[RungResult] = (),
    other: OtherSource = NO_SOURCE,
) -> Ladder:
    """The ladder of a choice, on the folds that it was made and tested on; ``read`` are its further rungs."""
    first = Rung(IN_DISTRIBUTION, probe.accuracy, probe.accuracy.n, "")
    without = _without_words(probe, statements, protocol)
    return Ladder(probe, (first, without, _reworded(statements, protocol, read), _elsewhere(read, other)))


def _without_words(probe: SelectedProbe, statements: LabelledStatements, protocol: FittingProtocol) -> Rung:
    splits = split_statements(statements, protocol)
    rows = splits.test_rows
    kept, words = np.zeros(probe.right.shape, bool), Counter[str]()
    for seed, folds in enumerate(splits.folds):
        for fold in splits.tested:
            train, tested = np.flatnonzero(folds != fold), np.flatnonzero(folds[rows] == fold)
            telling = contrast_words([statements.texts[row] for row in train], statements.labels[train])
            words.update(dict(zip(telling, range(len(telling), 0, -1), strict=True)))
            kept[seed, tested] = ~holds_any([statements.texts[rows[place]] for place in tested], telling)
    shown = ", ".join(word for word, _ in words.most_common(SHOWN_WORDS))
    detail = f"without words such as {shown}" if words else "there are none"
    labels, groups = statements.labels[rows], statements.groups[rows]
    return _rung(WITHOUT_WORDS, probe.right, kept, groups, labels, detail)


def _reworded(statements: LabelledStatements, protocol: FittingProtocol, read: Sequence[RungResult]) -> Rung:
    if statements.frames is None:
        return Rung(REWORDED, None, 0, "the source tells no frames")
    frames = len(np.unique(statements.frames))
    if frames == 1:
        return Rung(REWORDED, None, 0, "all statements are in one frame")
    if not read:
        return Rung(REWORDED, None, 0, NOT_READ)
    seeds = len(protocol.split_seeds)
    right, predicted = np.zeros((seeds, statements.n)), np.zeros((seeds, statements.n), bool)
    for result in read:
        for seed, probabilities in zip(result.seeds, result.reworded, strict=True):
            known = ~np.isnan(probabilities)
            predicted[seed] |= known
            right[seed, known] = (probabilities[known] > 0.5) == statements.labels[known]
    detail = f"each of {frames} frames by probes of the others"
    return _rung(REWORDED, right, predicted, statements.groups, statements.labels, detail)


def _elsewhere(read: Sequence[RungResult], source: OtherSource) -> Rung:
    other = source.statements
    if other is None:
        return Rung(ELSEWHERE, None, 0, source.reason, AUROC)
    refused = next((result.refused for result in read if result.refused), "")
    predicted = [result.elsewhere for result in read if result.elsewhere.shape[1] == other.n]
    if refused or not predicted:
        return Rung(ELSEWHERE, None, 0, refused or NOT_READ, AUROC)
    if other.n < FEWEST_STATEMENTS:
        return Rung(ELSEWHERE, None, other.n, f"too few: {counted(other.n, 'statement')}, {other.source}", AUROC)
    scores = np.concatenate(predicted).astype(np.float64).mean(axis=0)
    found = bootstrap_auroc(other.labels, scores, GroupBootstrap(other.groups, fitted=True))
    return Rung(ELSEWHERE, found, other.n, other.source, AUROC)


def _rung(
    name: str,
    right: Bool[np.ndarray, "seeds n"] | Float[np.ndarray, "seeds n"],
    kept: Bool[np.ndarray, "seeds n"],
    groups: Int64[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    detail: str,
) -> Rung:
    """Each statement that is left for any seed counts once, with its mean over those seeds."""
    left = kept.any(axis=0)
    n = int(left.sum())
    if n < FEWEST_STATEMENTS or len(np.unique(labels[left])) < 2:
        why = f"too few: {n} of {counted(labels.size, 'statement')}" if n < FEWEST_STATEMENTS else "one label is left"
        return Rung(name, None, n, f"{why}, {detail}")
    share = (right * kept).sum(axis=0)[left] / kept.sum(axis=0)[left]
    return Rung(name, GroupBootstrap(groups[left], fitted=True).proportion(share), n, detail)


def ladder_table(ladders: Iterable[Ladder]) -> pd.DataFrame:
    """``ladder.csv``: every rung of every dimension's choice."""
    rows: list[tuple[Checkpoint, tuple[object, ...]]] = []
    for ladder in ladders:
        for rung in ladder.rungs:
            found = rung.value
            cells = (None,) * 3 if found is None else (found.value, found.low, found.high)
            told = (rung.n, rung.stands, rung.detail, ladder.is_lexical)
            row = (ladder.dimension, ladder.probe.layer, rung.name, rung.measure, *cells, *told)
            rows.append((ladder.probe.result.checkpoint, row))
    return checkpoint_table(rows, LADDER_COLUMNS)


def ladder_lines(ladders: Sequence[Ladder]) -> str:
    """What is left of each dimension's accuracy where words, frames or the source cannot give the label away."""
    return "\n".join(
        ["", "What the choice of each dimension reads beside words, frames and its source:", *map(str, ladders)]
    )


def ladder_verdict(ladders: Sequence[Ladder]) -> str:
    """Sentences for a run's description; empty where every dimension stands wherever it can be told."""
    lexical = [ladder.dimension for ladder in ladders if ladder.is_lexical]
    sentences = [f" Lexical, at chance beyond its own words: {', '.join(lexical)}."] if lexical else []
    for name in (WITHOUT_WORDS, REWORDED, ELSEWHERE):
        fallen = [ladder.dimension for ladder in ladders if name in ladder.fallen and not ladder.is_lexical]
        sentences += [f" Not read on {name}: {', '.join(fallen)}."] if fallen else []
    return "".join(sentences)
