"""Floors: what a classifier that never saw the model scores on the same statements and the same folds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.statements.floors import Scores, is_lexical, ngram_char_scores, ngram_word_scores, surface_scores
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import Splits, split_statements
from pipelines.sweep.protocol import FittingProtocol


@dataclass(frozen=True)
class Floors:
    """Accuracies that need no language model, by split seed and, under ``None``, over all splits."""

    ngram: Mapping[int | None, Estimate]
    """TF-IDF with a logistic regression: words (1–2-grams) or characters (2–4-grams), whichever scores higher."""
    ngram_kind: str
    """``word`` or ``char``: the one that ``ngram`` is."""
    surface: Mapping[int | None, Estimate]
    """Length, word count, capitals and punctuation marks."""

    @property
    def is_lexical(self) -> bool:
        """Whether the text alone decides the label, so that no vector of these statements becomes champion."""
        return is_lexical((self.ngram[None], self.surface[None]))


def measure_floors(statements: LabelledStatements, protocol: FittingProtocol) -> Floors:
    """The floors under ``statements``, on the same splits as the probes; the higher n-gram model is the floor."""
    splits = split_statements(statements, protocol)
    word, char, surface = (
        _accuracies(scores, statements, splits) for scores in (ngram_word_scores, ngram_char_scores, surface_scores)
    )
    kind, ngram = ("word", word) if word[None].value >= char[None].value else ("char", char)
    return Floors(ngram=ngram, ngram_kind=kind, surface=surface)


def _accuracies(scores: Scores, statements: LabelledStatements, splits: Splits) -> dict[int | None, Estimate]:
    rows = splits.test_rows
    labels = statements.labels[rows]
    predicted = (scores(statements.texts, statements.labels, folds, splits.tested) for folds in splits.folds)
    right = np.stack([(probabilities[rows] > 0.5) == labels for probabilities in predicted]).astype(np.float64)
    bootstrap = GroupBootstrap(statements.groups[rows], fitted=True)
    by_seed: dict[int | None, Estimate] = {seed: bootstrap.proportion(values) for seed, values in enumerate(right)}
    by_seed[None] = bootstrap.proportion(right.mean(axis=0))
    return by_seed
