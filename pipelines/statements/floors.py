"""Floors: held-out scores of classifiers that see the text alone, never the model; all of it fitted on train folds."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

NGRAM_PENALTY = 10.0
_PUNCTUATION = re.compile(r"[.,;:!?]")


def ngram_word_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"], tested: Sequence[int]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by TF-IDF over words and pairs of words, by a model that did not see the row's fold."""
    return _out_of_fold(lambda: _ngrams(analyzer="word", ngram_range=(1, 2)), texts, labels, folds, tested)


def ngram_char_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"], tested: Sequence[int]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by TF-IDF over 2 to 4 characters, by a model that did not see the row's fold."""
    return _out_of_fold(lambda: _ngrams(analyzer="char", ngram_range=(2, 4)), texts, labels, folds, tested)


def surface_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"], tested: Sequence[int]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by length, words, capitals and punctuation marks, by a model that did not see the row's fold."""
    return _out_of_fold(
        lambda: make_pipeline(FunctionTransformer(surface_statistics), StandardScaler(), LogisticRegression()),
        texts,
        labels,
        folds,
        tested,
    )


def last_word_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"], tested: Sequence[int]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by the last word alone, which a probe of the last token reads most directly."""
    last = [text.split()[-1] for text in texts]
    return _out_of_fold(
        lambda: make_pipeline(CountVectorizer(analyzer=_whole), LogisticRegression(max_iter=1000)),
        last,
        labels,
        folds,
        tested,
    )


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


def _ngrams(**vectoriser: object) -> Pipeline:
    return make_pipeline(
        TfidfVectorizer(min_df=2, lowercase=False, **vectoriser),
        LogisticRegression(C=NGRAM_PENALTY, solver="newton-cg"),
    )


def _out_of_fold(
    make: Callable[[], Pipeline],
    texts: Sequence[str],
    labels: Bool[np.ndarray, " n"],
    folds: Int64[np.ndarray, " n"],
    tested: Sequence[int],
) -> Float[np.ndarray, " n"]:
    """Scores of the rows in ``tested`` folds; one half for every other row."""
    scores = np.full(len(texts), 0.5)
    documents = np.array(texts, dtype=object)
    for fold in tested:
        test = folds == fold
        model = make().fit(documents[~test], labels[~test])
        scores[test] = model.predict_proba(documents[test])[:, 1]
    return scores
