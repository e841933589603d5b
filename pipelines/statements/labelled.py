"""Labelled statements of one dimension: the only form in which data reaches a probe."""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from pipelines.statements.splits import whole_groups
from registry.counts import counted
from registry.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class LabelledStatements:
    """``n`` texts that are each trustworthy or not in the sense of one dimension.

    Raises ``InvalidInput`` on construction when lengths differ, a text is empty, a class is missing, one text
    carries both labels, or the user's own split parts a group.
    """

    dimension: str
    texts: tuple[str, ...]
    labels: Bool[np.ndarray, " n"]
    """True where the statement is trustworthy."""
    groups: Int64[np.ndarray, " n"]
    """Statements of one group (a pair, a question, a context) never straddle a split."""
    source: str
    """Where they come from, such as ``packaged:city-facts``."""
    split: tuple[str, ...] | None = None
    """``train`` or ``test`` for each statement, where the user's file says so."""
    as_released: bool = False
    """A published file with its faults: texts that carry both labels are let through."""
    subgroups: Int64[np.ndarray, " n"] | None = None
    """What is halved and resampled among statements held out together, where groups are few: a city's claims, of
    groups that are three countries with all their cities. Each lies within one group."""
    frames: Int64[np.ndarray, " n"] | None = None
    """The wording around each statement's contrast, where the source tells it; what is measured does not depend on it,
    but for probes that are read in other frames than they were fitted on."""
    prompts: tuple[str, ...] | None = None
    """Of statements that are answers: how each text begins, up to the answer. ``pooling=response`` reads the rest."""

    def __post_init__(self) -> None:
        finest = self.groups if self.subgroups is None else self.subgroups
        lengths = {len(self.texts), len(self.labels), len(self.groups), len(self.split or self.texts), len(finest)}
        lengths.add(len(self.texts if self.frames is None else self.frames))
        lengths.add(len(self.texts if self.prompts is None else self.prompts))
        if len(lengths) > 1:
            raise InvalidInput(
                f"{self.source} has {counted(len(self.texts), 'text')}, {counted(len(self.labels), 'label')} "
                f"and {counted(len(self.groups), 'group')}"
            )
        if not self.texts:
            raise InvalidInput(f"{self.source} holds no statements for {self.dimension}")
        empty = [row for row, text in enumerate(self.texts) if not text.strip()]
        if empty:
            raise InvalidInput(
                f"{self.source} has {counted(len(empty), 'empty statement')}, the first in row {empty[0]}"
            )
        if not all(map(str.startswith, self.texts, self.prompts or ("",) * self.n)):
            raise InvalidInput(f"{self.source} has texts that do not begin with their prompts")
        self._require_both_classes()
        if not self.as_released:
            self._refuse_conflicts()
        self._refuse_leaking_split()

    def _require_both_classes(self) -> None:
        positive = int(self.labels.sum())
        if positive in (0, self.n):
            raise InvalidInput(
                f"all statements of {self.source} (n = {self.n}) have label {int(positive > 0)}; a probe for "
                f"{self.dimension} needs trustworthy (1) and untrustworthy (0) statements"
            )

    def _refuse_conflicts(self) -> None:
        seen: dict[str, set[bool]] = defaultdict(set)
        for text, label in zip(self.texts, self.labels, strict=True):
            seen[text].add(bool(label))
        conflicting = [text for text, labels in seen.items() if len(labels) == 2]
        if conflicting:
            raise InvalidInput(
                f"{self.source} gives both labels to {counted(len(conflicting), 'text')}, such as "
                f"{conflicting[0][:60]!r}; decide on one label each, or remove them"
            )

    def _refuse_leaking_split(self) -> None:
        if self.split is None:
            return
        parts = np.array(self.split)
        straddling = np.intersect1d(self.groups[parts == "train"], self.groups[parts == "test"])
        if len(straddling):
            example = self.texts[int(np.argmax(self.groups == straddling[0]))]
            raise InvalidInput(
                f"the split of {self.source} leaks: both train and test have rows of "
                f"{counted(len(straddling), 'group')}, such as "
                f"that of {example[:60]!r}; put each group on one side, or leave the split column out"
            )

    @property
    def n(self) -> int:
        return len(self.texts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides what is measured: dimension, source, and all of each statement."""
        content = hashlib.sha256(f"{self.dimension}\x1f{self.source}\x1e{self.content_digest}".encode())
        if self.subgroups is not None:
            content.update(self.subgroups.astype("<i8").tobytes())
        if self.prompts is not None:
            content.update(json.dumps(self.prompts).encode())
        return content.hexdigest()

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 of texts, labels, groups and splits, in order: by which vectors of earlier versions name them."""
        content = hashlib.sha256()
        for row, text in enumerate(self.texts):
            part = self.split[row] if self.split else ""
            content.update(f"{text}\x1f{int(self.labels[row])}\x1f{self.groups[row]}\x1f{part}\x1e".encode())
        return content.hexdigest()

    def has_digest(self, digest: str, source: str = "") -> bool:
        """Whether ``digest`` names these statements, by the present rule or by that of earlier versions.

        A copy under another name is named by the digest that it had under ``source``.
        """
        named = self if source in ("", self.source) else replace(self, source=source)
        return digest in (named.digest, self.content_digest)

    def subset(self, limit: int, seed: int) -> "LabelledStatements":
        """About ``limit`` statements in their order: whole groups, drawn at random until there are enough."""
        if limit <= 0 or limit >= self.n:
            return self
        return self.take(whole_groups(self.groups, limit, seed))

    def take(self, rows: Int64[np.ndarray, " m"]) -> "LabelledStatements":
        """The statements of ``rows``, in that order."""
        return LabelledStatements(
            dimension=self.dimension,
            texts=tuple(self.texts[row] for row in rows),
            labels=self.labels[rows],
            groups=self.groups[rows],
            source=self.source,
            split=tuple(self.split[row] for row in rows) if self.split else None,
            as_released=self.as_released,
            subgroups=None if self.subgroups is None else self.subgroups[rows],
            frames=None if self.frames is None else self.frames[rows],
            prompts=None if self.prompts is None else tuple(self.prompts[row] for row in rows),
        )

    def to_frame(self) -> pd.DataFrame:
        """Columns ``statement``, ``label`` (true = trustworthy), ``group`` (as text: it is a name, not a number)."""
        return pd.DataFrame({"statement": self.texts, "label": self.labels, "group": self.groups.astype(str)})
