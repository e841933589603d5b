"""Rows of statements as a source has them, faults included: a quality report looks at them, and loading cleans them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from pipelines.statements.benchmarks import DatasetCard
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.splits import whole_groups
from registry.errors import InvalidInput

Conflicts = Literal["refuse", "drop"]

Row = tuple[str, bool, str]
"""Text, whether it is trustworthy, and its group."""


@dataclass(frozen=True, eq=False)
class StatementRows:
    """``n`` rows in their source's order; texts may repeat, or carry both labels."""

    texts: tuple[str, ...]
    labels: Bool[np.ndarray, " n"]
    """True where the statement is trustworthy: polarity is normalised already."""
    groups: Int64[np.ndarray, " n"]
    source: str
    card: DatasetCard
    split: tuple[str, ...] | None = None
    conflicts: Conflicts = "refuse"
    """Whether texts with both labels are dropped, with later copies of a text, or refused."""
    in_file_order: bool = True
    """Whether somebody chose the order; only then does a split in that order mean anything."""
    subgroups: Int64[np.ndarray, " n"] | None = None
    """See ``LabelledStatements``."""
    frames: Int64[np.ndarray, " n"] | None = None
    """See ``LabelledStatements``."""
    prompts: tuple[str, ...] | None = None
    """See ``LabelledStatements``."""
    unread_columns: tuple[str, ...] = ()
    """Columns of the user's file that mean nothing here."""
    unread_files: tuple[str, ...] = ()
    """Data files beside it that no known dimension reads."""

    def statements(self, *, as_released: bool = False) -> LabelledStatements:
        """The rows fit for a probe. Raises ``InvalidInput`` as ``LabelledStatements`` does.

        A benchmark read ``as_released`` keeps its duplicates and conflicts, for comparison with published numbers.
        """
        released = as_released and self.conflicts == "drop"
        rows = self.take(kept_rows(self.texts, self.labels)) if self.conflicts == "drop" and not released else self
        return LabelledStatements(
            dimension=rows.card.dimension,
            texts=rows.texts,
            labels=rows.labels,
            groups=np.unique(rows.groups, return_inverse=True)[1].astype(np.int64),
            source=rows.source,
            split=rows.split,
            as_released=released,
            subgroups=rows.subgroups,
            frames=rows.frames,
            prompts=rows.prompts,
        )

    def subset(self, limit: int, seed: int) -> "StatementRows":
        """About ``limit`` rows, in whole groups; 0 takes all. Raises ``InvalidInput`` for fewer than none."""
        if limit < 0:
            raise InvalidInput(f"limit is {limit}; give a number of statements, or 0 for all")
        return self if limit == 0 or limit >= len(self.texts) else self.take(whole_groups(self.groups, limit, seed))

    def take(self, rows: Int64[np.ndarray, " m"]) -> "StatementRows":
        return replace(
            self,
            texts=tuple(self.texts[row] for row in rows),
            labels=self.labels[rows],
            groups=self.groups[rows],
            split=tuple(self.split[row] for row in rows) if self.split else None,
            subgroups=None if self.subgroups is None else self.subgroups[rows],
            frames=None if self.frames is None else self.frames[rows],
            prompts=None if self.prompts is None else tuple(self.prompts[row] for row in rows),
        )


def rows_of(rows: Iterable[Row], source: str, card: DatasetCard, *, conflicts: Conflicts = "refuse") -> StatementRows:
    """Collect ``(text, trustworthy, group)`` triples."""
    listed = list(rows)
    _, groups = np.unique([group for _, _, group in listed], return_inverse=True)
    return StatementRows(
        texts=tuple(text for text, _, _ in listed),
        labels=np.array([label for _, label, _ in listed], bool),
        groups=groups.astype(np.int64),
        source=source,
        card=card,
        conflicts=conflicts,
    )


def kept_rows(texts: tuple[str, ...], labels: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """The first row of every text that carries one label only."""
    first: dict[str, int] = {}
    conflicting = set()
    for row, text in enumerate(texts):
        if labels[first.setdefault(text, row)] != labels[row]:
            conflicting.add(text)
    return np.array([row for text, row in first.items() if text not in conflicting], np.int64)
