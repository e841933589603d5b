"""Floors: held-out scores of classifiers that see the text alone, never the model; all of it fitted on train folds."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from itertools import chain
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from pipelines.estimators.estimate import Estimate

Analyzer = Literal["word", "char"]
Documents: TypeAlias = "np.ndarray | csr_matrix"
"""Texts, or the counts of their terms; a row each."""

Predicted: TypeAlias = Float[np.ndarray, " n"]
Scores: TypeAlias = Callable[[Sequence[str], np.ndarray, np.ndarray, Sequence[int]], Predicted]

NGRAM_PENALTY = 10.0
LEXICAL_ACCURACY = 0.95
"""A floor above this leaves a probe nothing to show: the text alone decides the label."""
COVERED = 0.5
"""Share of the statements that must hold a known term for a vocabulary to be of use."""
_PUNCTUATION = re.compile(r"[.,;:!?\u3002\uff0c\u3001\uff1b\uff1a\uff01\uff1f\u060c\u061b\u061f\u0964]")
_LAST_LETTER = re.compile(r"\w?\W*$")


@dataclass(frozen=True)
class Vocabulary:
    """The terms that an n-gram floor counts."""

    name: str
    """In a sentence: what the floor sees."""
    pattern: str
    """A term, as a regular expression."""
    lengths: tuple[int, int]
    """How many terms, or characters, in a row are counted together."""
    min_df: int
    """Terms of fewer statements are left out."""


WORDS = (
    Vocabulary("a bag of words and word pairs", r"(?u)\b\w\w+\b", (1, 2), 2),
    Vocabulary("a bag of words and word pairs, words of one letter among them", r"(?u)\b\w+\b", (1, 2), 2),
    Vocabulary("a bag of words and word pairs, even those of one statement", r"(?u)\b\w+\b", (1, 2), 1),
    Vocabulary("a bag of whatever stands between spaces", r"\S+", (1, 2), 1),
)
"""The first that covers the statements is used: most languages, arithmetic, single words, signs."""
CHARACTERS = (
    Vocabulary("a bag of character sequences", r"(?=(..))", (2, 4), 2),
    Vocabulary("a bag of characters and character sequences", r".", (1, 4), 2),
    Vocabulary("a bag of characters and character sequences, even those of one statement", r".", (1, 4), 1),
)


def vocabulary_for(
    choices: tuple[Vocabulary, ...], texts: Sequence[str], folds: Int64[np.ndarray, " n"], tested: Sequence[int]
) -> Vocabulary:
    """The first of ``choices`` that covers what is fitted on for each of the ``tested`` folds, else the last."""
    for choice in choices:
        term = re.compile(choice.pattern, re.DOTALL)
        terms = [frozenset(term.findall(text)) for text in texts]
        if all(_covers(choice, [terms[row] for row in np.flatnonzero(folds != fold)]) for fold in tested):
            return choice
    return choices[-1]


def _covers(vocabulary: Vocabulary, terms: Sequence[frozenset[str]]) -> bool:
    """Whether enough texts, each given by its ``terms``, have one that is counted."""
    counts = Counter(chain.from_iterable(terms))
    known = sum(any(counts[term] >= vocabulary.min_df for term in of_text) for of_text in terms)
    return known > 0 and known >= COVERED * len(terms)


def is_lexical(floors: Iterable[Estimate]) -> bool:
    """Whether the text alone decides the label, so that a probe of a model has nothing to show."""
    return any(floor.value > LEXICAL_ACCURACY for floor in floors)


def _remembered(scores: Scores) -> Scores:
    """``scores`` computed once in a process for the same texts, labels and folds: reports of statements and floors of
    experiments ask for the same. The array is read-only."""

    @lru_cache(maxsize=64)
    def computed(texts: tuple[str, ...], labels: bytes, folds: bytes, tested: tuple[int, ...]) -> Predicted:
        predicted = scores(texts, np.frombuffer(labels, np.bool_), np.frombuffer(folds, np.int64), tested)
        predicted.setflags(write=False)
        return predicted

    @wraps(scores)
    def remembered(texts: Sequence[str], labels: np.ndarray, folds: np.ndarray, tested: Sequence[int]) -> Predicted:
        arrays = labels.astype(np.bool_).tobytes(), folds.astype(np.int64).tobytes()
        return computed(tuple(texts), *arrays, tuple(tested))

    return remembered


@_remembered
def ngram_word_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"], tested: Sequence[int]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by TF-IDF over words and pairs of words, by a model that did not see the row's fold."""
    words = vocabulary_for(WORDS, texts, folds, tested)
    return _out_of_fold(lambda: _ngrams(words), _counts("word", words, tuple(texts)), labels, folds, tested)


@_remembered
def ngram_char_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"], tested: Sequence[int]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by TF-IDF over 2 to 4 characters, by a model that did not see the row's fold."""
    characters = vocabulary_for(CHARACTERS, texts, folds, tested)
    return _out_of_fold(lambda: _ngrams(characters), _counts("char", characters, tuple(texts)), labels, folds, tested)


@_remembered
def surface_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"], tested: Sequence[int]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by length, words, capitals and punctuation marks, by a model that did not see the row's fold."""
    return _out_of_fold(
        lambda: make_pipeline(FunctionTransformer(surface_statistics), StandardScaler(), LogisticRegression()),
        np.array(texts, dtype=object),
        labels,
        folds,
        tested,
    )


@_remembered
def last_word_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"], tested: Sequence[int]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by the last word alone, which a probe of the last token reads most directly."""
    return _out_of_fold(
        lambda: make_pipeline(CountVectorizer(analyzer=_whole), LogisticRegression(max_iter=1000)),
        np.array(last_words(texts), dtype=object),
        labels,
        folds,
        tested,
    )


def has_spaces(texts: Sequence[str]) -> bool:
    """Whether most texts have words that spaces part, as Chinese or Thai sentences have not."""
    return sum(len(text.split()) > 1 for text in texts) >= COVERED * len(texts)


def last_words(texts: Sequence[str]) -> list[str]:
    """The last word of each text; the last letter, with what follows it, where spaces do not part words."""
    if has_spaces(texts):
        return [text.split()[-1] for text in texts]
    return [_LAST_LETTER.findall(text.strip())[0] for text in texts]


def _whole(text: str) -> tuple[str]:
    return (text,)


def surface_statistics(texts: Sequence[str]) -> Float[np.ndarray, "n 4"]:
    """Characters, words, capital letters and punctuation marks of each text."""
    return np.array(
        [
            (len(text), len(text.split()), sum(map(str.isupper, text)), len(_PUNCTUATION.findall(text)))
            for text in texts
        ],
        dtype=np.float64,
    )


class _FrequentTerms(SelectorMixin, BaseEstimator):  # type: ignore[misc]
    """The columns of counts whose terms at least ``min_df`` of the fitted texts hold."""

    def __init__(self, min_df: int) -> None:
        self.min_df = min_df

    def fit(self, counts: csr_matrix, _labels: object = None) -> "_FrequentTerms":
        self.mask_: Bool[np.ndarray, " terms"] = counts.getnnz(axis=0) >= self.min_df
        return self

    def _get_support_mask(self) -> Bool[np.ndarray, " terms"]:
        return self.mask_


def _ngrams(vocabulary: Vocabulary) -> Pipeline:
    """Of counts, what scikit-learn's ``TfidfVectorizer`` and a logistic regression are of texts."""
    return make_pipeline(
        _FrequentTerms(vocabulary.min_df),
        TfidfTransformer(),
        LogisticRegression(C=NGRAM_PENALTY, solver="newton-cg"),
    )


@lru_cache(maxsize=8)
def _counts(analyzer: Analyzer, vocabulary: Vocabulary, texts: tuple[str, ...]) -> csr_matrix:
    """Of every term of ``texts``, in alphabetical order: counted once for all folds, which takes most of the time."""
    vectoriser = CountVectorizer(
        analyzer=analyzer,
        ngram_range=vocabulary.lengths,
        lowercase=False,
        token_pattern=vocabulary.pattern if analyzer == "word" else None,
        dtype=np.float64,
    )
    return vectoriser.fit_transform(texts)


def _out_of_fold(
    make: Callable[[], Pipeline],
    documents: Documents,
    labels: Bool[np.ndarray, " n"],
    folds: Int64[np.ndarray, " n"],
    tested: Sequence[int],
) -> Float[np.ndarray, " n"]:
    """Scores of the rows in ``tested`` folds; one half for every other row."""
    scores = np.full(len(labels), 0.5)
    for fold in tested:
        test = folds == fold
        model = make().fit(documents[~test], labels[~test])
        scores[test] = model.predict_proba(documents[test])[:, 1]
    return scores
