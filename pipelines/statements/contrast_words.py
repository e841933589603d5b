"""Contrast words: those that a bag of words tells the label by, and which statements do without them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

MOST_WORDS = 20
WORD = r"(?u)\b\w+\b"
SPARSITY = 1.0
"""C of the L1 penalty, which leaves words that tell nothing beyond others without weight."""


def contrast_words(texts: Sequence[str], labels: Bool[np.ndarray, " n"]) -> tuple[str, ...]:
    """At most ``MOST_WORDS`` words with weight in a sparse bag-of-words regression, the heaviest first."""
    vectoriser = CountVectorizer(binary=True, token_pattern=WORD)
    counts = vectoriser.fit_transform(texts)
    model = LogisticRegression(l1_ratio=1.0, solver="liblinear", C=SPARSITY, random_state=0).fit(counts, labels)
    weights, words = np.abs(model.coef_[0]), vectoriser.get_feature_names_out()
    heaviest = np.argsort(-weights, kind="stable")[:MOST_WORDS]
    return tuple(str(words[place]) for place in heaviest if weights[place] > 0)


def holds_any(texts: Sequence[str], words: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Which texts hold one of ``words``."""
    if not words:
        return np.zeros(len(texts), bool)
    found = CountVectorizer(binary=True, token_pattern=WORD, vocabulary=sorted(set(words))).transform(texts)
    return np.asarray(found.sum(axis=1)).ravel() > 0
