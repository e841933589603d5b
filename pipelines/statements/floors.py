"""Floors: held-out scores of classifiers that see the text alone, never the model; all of it fitted on train folds."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

NGRAM_PENALTY = 10.0
_PUNCTUATION = re.compile(r"[.,;:!?]")


def ngram_word_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by TF-IDF over words and pairs of words, by a model that did not see the row's fold."""
    return _out_of_fold(lambda: _ngrams(analyzer="word", ngram_range=(1, 2)), texts, labels, folds)


def ngram_char_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by TF-IDF over 2 to 4 characters, by a model that did not see the row's fold."""
    return _out_of_fold(lambda: _ngrams(analyzer="char", ngram_range=(2, 4)), texts, labels, folds)


def surface_scores(
    texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """P(trustworthy) by length, words, capitals and punctuation marks, by a model that did not see the row's fold."""
    return _out_of_fold(
        lambda: make_pipeline(FunctionTransformer(surface_statistics), StandardScaler(), LogisticRegression()),
        texts,
        labels,
        folds,
    )


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
        LogisticRegression(C=NGRAM_PENALTY, max_iter=1000),
    )


def _out_of_fold(
    make: Callable[[], Pipeline], texts: Sequence[str], labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    scores = np.full(len(texts), 0.5)
    documents = np.array(texts, dtype=object)
    for fold in np.unique(folds)[_first_tested(folds) :]:
        test = folds == fold
        model = make().fit(documents[~test], labels[~test])
        scores[test] = model.predict_proba(documents[test])[:, 1]
    return scores


def _first_tested(folds: np.ndarray) -> int:
    """With two folds, as in the paper's split, only the second is tested."""
    return 1 if folds.max() == 1 else 0
