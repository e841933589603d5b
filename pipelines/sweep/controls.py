"""Floors: what a classifier that never saw the model scores on the same statements and the same folds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from pipelines.estimators.estimate import Estimate, group_bootstrap_mean
from pipelines.statements.floors import ngram_char_scores, ngram_word_scores, surface_scores
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.splits import sequential_split
from pipelines.sweep.measure import split_statements
from pipelines.sweep.settings import ProbeSettings


@dataclass(frozen=True)
class Floors:
    """Accuracies that need no language model, by split seed and, under ``None``, over all splits."""

    ngram: Mapping[int | None, Estimate]
    """TF-IDF with a logistic regression: words (1–2-grams) or characters (2–4-grams), whichever scores higher."""
    ngram_kind: str
    """``word`` or ``char``: the one that ``ngram`` is."""
    surface: Mapping[int | None, Estimate]
    """Length, word count, capitals and punctuation marks."""


_Scores = Callable[[tuple[str, ...], np.ndarray, np.ndarray], Float[np.ndarray, " n"]]


def measure_floors(statements: LabelledStatements, settings: ProbeSettings) -> Floors:
    """The floors under ``statements``, on the same splits as the probes; the higher n-gram model is the floor."""
    folds, tested = _folds(statements, settings)
    word, char, surface = (
        _accuracies(scores, statements, folds, tested)
        for scores in (ngram_word_scores, ngram_char_scores, surface_scores)
    )
    kind, ngram = ("word", word) if word[None].value >= char[None].value else ("char", char)
    return Floors(ngram=ngram, ngram_kind=kind, surface=surface)


def _folds(
    statements: LabelledStatements, settings: ProbeSettings
) -> tuple[Int64[np.ndarray, "seeds n"], Int64[np.ndarray, " n_test"]]:
    """Fold assignments, and the rows whose predictions count."""
    if settings.protocol == "sound":
        return split_statements(statements, settings), np.arange(statements.n)
    _, test = sequential_split(statements.n, 0.8)
    folds = np.zeros((1, statements.n), np.int64)
    folds[0, test] = 1
    return folds, test


def _accuracies(
    scores: _Scores,
    statements: LabelledStatements,
    folds: Int64[np.ndarray, "seeds n"],
    tested: Int64[np.ndarray, " n_test"],
) -> dict[int | None, Estimate]:
    labels, groups = statements.labels[tested], statements.groups[tested]
    right = np.stack(
        [(scores(statements.texts, statements.labels, one)[tested] > 0.5) == labels for one in folds]
    ).astype(np.float64)
    by_seed: dict[int | None, Estimate] = {
        seed: group_bootstrap_mean(values, groups, seed=seed) for seed, values in enumerate(right)
    }
    by_seed[None] = group_bootstrap_mean(right.mean(axis=0), groups, seed=0)
    return by_seed
