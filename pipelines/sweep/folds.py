"""Folds for probing: the statements that are fitted on and tested on, for each seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int64

from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.splits import group_folds, sequential_split
from pipelines.sweep.protocol import N_FOLDS, FittingProtocol
from registry.errors import InvalidInput

PAPER_TRAIN_RATIO = 0.8


@dataclass(frozen=True)
class Splits:
    """Which fold each statement is in, once for each seed, and which folds are tested."""

    folds: Int64[np.ndarray, "seeds n"]
    tested: tuple[int, ...]

    @property
    def test_rows(self) -> Int64[np.ndarray, " n_test"]:
        """The statements that are tested; the same for every seed."""
        return np.flatnonzero(np.isin(self.folds[0], self.tested))


def cross_validation(statements: LabelledStatements, seeds: Sequence[int]) -> Splits:
    """Group folds that are each tested once; where the user gave a split, only its test part is, as fold 0.

    Raises ``InvalidInput`` for a split of which a part lacks a class.
    """
    groups, labels = statements.groups, statements.labels
    if statements.split is None:
        folds = np.stack([group_folds(groups, labels, N_FOLDS, seed) for seed in seeds])
        return Splits(folds, tuple(range(N_FOLDS)))
    test = given_test_rows(statements)
    folds = np.zeros((len(seeds), statements.n), np.int64)
    for row, seed in zip(folds, seeds, strict=True):
        row[~test] = 1 + group_folds(groups[~test], labels[~test], N_FOLDS - 1, seed)
    return Splits(folds, (0,))


def given_test_rows(statements: LabelledStatements) -> Bool[np.ndarray, " n"]:
    """Where the user's ``split`` says ``test``. Raises ``InvalidInput`` for a part that lacks a class."""
    test: Bool[np.ndarray, " n"] = np.array(statements.split) == "test"
    for name, rows in (("train", ~test), ("test", test)):
        if len(set(statements.labels[rows].tolist())) < 2:
            raise InvalidInput(f"the {name} part of {statements.source} holds one class only; both are needed in each")
    return test


def fitting_split(statements: LabelledStatements, protocol: FittingProtocol) -> str:
    """The statements that directions are fitted on, in words; calibration and evaluation use the others."""
    if protocol.is_paper:
        return f"the first {PAPER_TRAIN_RATIO:.0%}, in the order of the file"
    if statements.split is not None:
        return "those that the file does not mark as test"
    return f"all but fold 0 of {N_FOLDS} folds of whole groups, seed {protocol.split_seeds[0]}"


@lru_cache(maxsize=16)
def split_statements(statements: LabelledStatements, protocol: FittingProtocol) -> Splits:
    """How ``statements`` are split under ``protocol``; every checkpoint is asked about the same."""
    if not protocol.is_paper:
        return cross_validation(statements, protocol.split_seeds)
    _, test = sequential_split(statements.n, PAPER_TRAIN_RATIO)
    folds = np.ones((1, statements.n), np.int64)
    folds[0, test] = 0
    return Splits(folds, (0,))
