"""Quality report: what a set of statements asks, what is wrong with it and what it gives away, before any probe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.statements.benchmarks import DatasetCard
from pipelines.statements.floors import (
    CHARACTERS,
    WORDS,
    Scores,
    has_spaces,
    is_lexical,
    last_word_scores,
    ngram_char_scores,
    ngram_word_scores,
    surface_scores,
    surface_statistics,
    vocabulary_for,
)
from pipelines.statements.rows import Conflicts, StatementRows, kept_rows
from pipelines.statements.signals import bootstrap_auroc
from pipelines.statements.splits import group_folds, group_leakage, sequential_split
from registry.errors import InvalidInput

ARTEFACT = "_x000D_"
"""A carriage return as spreadsheets export it."""
TRAIN_RATIO = 0.8
N_FOLDS = 5

FLOORS: Mapping[str, Scores] = {
    "last_word": last_word_scores,
    "surface": surface_scores,
    "ngram_word": ngram_word_scores,
    "ngram_char": ngram_char_scores,
}
COUNTS = {"length": 0, "words": 1, "capitals": 2, "punctuation": 3}
"""Columns of the surface statistics."""

SplitName = Literal["grouped", "sequential"]


@dataclass(frozen=True)
class QualityReport:
    """Counts, leakage and floors of one source's rows, as they are before anything is dropped."""

    card: DatasetCard
    source: str
    conflicts: Conflicts
    n: int
    n_trustworthy: int
    n_groups: int
    n_kept: int
    """Rows that remain when texts with both labels and later copies of a text are dropped."""
    duplicates: int
    """Rows whose text an earlier row has."""
    conflicting: int
    """Texts that carry both labels."""
    artefacts: int
    """Rows with a spreadsheet's carriage return in letters."""
    sequential_leakage: float | None
    """Share of the last fifth of the rows whose group is among the first four fifths, the paper's split; none where
    nobody chose the rows' order."""
    split_leakage: float | None
    """The same of the user's own split, where there is one."""
    aurocs: Mapping[str, Estimate]
    """By what is counted: the chance that a trustworthy statement has more of it."""
    floors: Mapping[SplitName, Mapping[str, Estimate]]
    """Held-out accuracy of classifiers that see the text alone, by split and by what they see."""
    seen: Mapping[str, str]
    """What each of these classifiers sees, in words."""
    one_class: tuple[str, ...] = ()
    """The parts of the user's own split that lack a class."""
    unread_columns: tuple[str, ...] = ()
    """Columns of the user's file that mean nothing here."""
    unread_files: tuple[str, ...] = ()
    """Data files beside it that no known dimension reads."""

    @property
    def is_lexical(self) -> bool:
        """Whether the text alone decides the label: no vector of such statements becomes champion."""
        return is_lexical(self.floors.get("grouped", {}).values())

    @property
    def majority(self) -> float:
        """Accuracy of always giving the more frequent label."""
        return max(self.n_trustworthy, self.n - self.n_trustworthy) / self.n

    def to_rows(self) -> list[dict[str, object]]:
        """The report as a table: columns ``dimension, source, measure, value, low, high``."""
        counts = {name: getattr(self, name) for name in _COUNTED}
        measures: dict[str, object] = {
            **{name: value for name, value in counts.items() if value is not None},
            **{f"{name}_auroc": auroc for name, auroc in self.aurocs.items()},
            **{f"{name}_{split}": floor for split, floors in self.floors.items() for name, floor in floors.items()},
        }
        head = {"dimension": self.card.dimension, "source": self.source}
        return [head | {"measure": name} | _cells(value) for name, value in measures.items()]


_COUNTED = (
    "n",
    "n_trustworthy",
    "n_groups",
    "n_kept",
    "duplicates",
    "conflicting",
    "artefacts",
    "majority",
    "sequential_leakage",
    "split_leakage",
)


def _cells(value: object) -> dict[str, object]:
    if isinstance(value, Estimate):
        return {"value": value.value, "low": value.low, "high": value.high}
    return {"value": value, "low": None, "high": None}


def inspect_rows(rows: StatementRows, *, seed: int = 0) -> QualityReport:
    """Measure ``rows`` as they are; floors are left out where a class is missing or groups are too few to split."""
    n, n_groups = len(rows.texts), len(np.unique(rows.groups))
    unique = len(set(rows.texts))
    train, test = sequential_split(n, TRAIN_RATIO)
    folds = _group_folds(rows, seed)
    by_text: dict[str, set[bool]] = {}
    for text, label in zip(rows.texts, rows.labels, strict=True):
        by_text.setdefault(text, set()).add(bool(label))
    return QualityReport(
        card=rows.card,
        source=rows.source,
        conflicts=rows.conflicts,
        n=n,
        n_trustworthy=int(rows.labels.sum()),
        n_groups=n_groups,
        n_kept=len(kept_rows(rows.texts, rows.labels)),
        duplicates=n - unique,
        conflicting=sum(len(labels) == 2 for labels in by_text.values()),
        artefacts=sum(ARTEFACT in text for text in rows.texts),
        sequential_leakage=group_leakage(rows.groups, train, test) if rows.in_file_order else None,
        split_leakage=_split_leakage(rows),
        aurocs=_aurocs(rows, seed),
        floors=_floors(rows, folds, seed),
        seen=_seen(rows, folds),
        one_class=_one_class(rows),
        unread_columns=rows.unread_columns,
        unread_files=rows.unread_files,
    )


def _seen(rows: StatementRows, folds: Int64[np.ndarray, " n"] | None) -> dict[str, str]:
    """What each floor sees when it is measured in ``folds``."""
    words, characters = WORDS[0], CHARACTERS[0]
    if folds is not None:
        words, characters = (
            vocabulary_for(choices, rows.texts, folds, range(N_FOLDS)) for choices in (WORDS, CHARACTERS)
        )
    return {
        "last_word": "the last word alone" if has_spaces(rows.texts) else "the last letter alone",
        "surface": "the numbers of characters, words, capitals and punctuation marks alone",
        "ngram_word": words.name,
        "ngram_char": characters.name,
    }


def _split_leakage(rows: StatementRows) -> float | None:
    if rows.split is None:
        return None
    parts = np.array(rows.split)
    test = np.flatnonzero(parts == "test")
    return group_leakage(rows.groups, np.flatnonzero(parts == "train"), test) if len(test) else 0.0


def _one_class(rows: StatementRows) -> tuple[str, ...]:
    parts = np.array(rows.split or ())
    return tuple(part for part in ("train", "test") if len(parts) and not _both(rows.labels[parts == part]))


def _both(labels: Bool[np.ndarray, " n"]) -> bool:
    return bool(labels.any() and not labels.all())


def _aurocs(rows: StatementRows, seed: int) -> dict[str, Estimate]:
    if not _both(rows.labels):
        return {}
    counted = surface_statistics(rows.texts)
    bootstrap = GroupBootstrap(rows.groups, seed=seed)
    return {name: bootstrap_auroc(rows.labels, counted[:, column], bootstrap) for name, column in COUNTS.items()}


def _group_folds(rows: StatementRows, seed: int) -> Int64[np.ndarray, " n"] | None:
    """``None`` where a class is missing or groups are too few to split. Raises ``InvalidInput`` for a class that is
    too rare for the folds, by source."""
    if not _both(rows.labels) or len(np.unique(rows.groups)) < N_FOLDS:
        return None
    try:
        return group_folds(rows.groups, rows.labels, N_FOLDS, seed)
    except InvalidInput as error:
        raise InvalidInput(f"{rows.source}: {error}") from error


def _floors(
    rows: StatementRows, folds: Int64[np.ndarray, " n"] | None, seed: int
) -> dict[SplitName, dict[str, Estimate]]:
    train, test = sequential_split(len(rows.texts), TRAIN_RATIO)
    floors: dict[SplitName, dict[str, Estimate]] = {}
    if folds is not None:
        floors["grouped"] = _accuracies(rows, folds, range(N_FOLDS), seed)
    if rows.in_file_order and _both(rows.labels[train]):
        parts = np.ones(len(rows.texts), np.int64)
        parts[test] = 0
        floors["sequential"] = _accuracies(rows, parts, (0,), seed)
    return floors


def _accuracies(
    rows: StatementRows, folds: Int64[np.ndarray, " n"], tested: Sequence[int], seed: int
) -> dict[str, Estimate]:
    """Held-out accuracy in the ``tested`` folds, by floor."""
    measured = np.flatnonzero(np.isin(folds, tested))
    bootstrap = GroupBootstrap(rows.groups[measured], fitted=True, seed=seed)
    accuracies = {}
    for name, scores in FLOORS.items():
        right = (scores(rows.texts, rows.labels, folds, tested) > 0.5) == rows.labels
        accuracies[name] = bootstrap.proportion(right[measured].astype(np.float64))
    return accuracies
