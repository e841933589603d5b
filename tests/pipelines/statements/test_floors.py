import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from pipelines.statements import floors
from pipelines.statements.benchmarks import BENCHMARKS
from pipelines.statements.floors import (
    last_word_scores,
    ngram_char_scores,
    ngram_word_scores,
    surface_scores,
    surface_statistics,
)
from pipelines.statements.splits import group_leakage, sequential_split


def accuracy(scores, labels, rows):
    return float(((scores[rows] > 0.5) == labels[rows]).mean())


def test_words_that_decide_are_found_and_coin_flips_are_not(rng):
    labels = np.tile([True, False], 60)
    texts = [f"the {'kind' if label else 'cruel'} word {row}" for row, label in enumerate(labels)]
    folds = np.arange(120) // 2 % 5
    everything = np.arange(120)
    assert accuracy(ngram_word_scores(texts, labels, folds, range(5)), labels, everything) == 1
    assert accuracy(ngram_char_scores(texts, labels, folds, range(5)), labels, everything) == 1
    coins = rng.random(120) < 0.5
    assert abs(accuracy(ngram_word_scores(texts, coins, folds, range(5)), coins, everything) - 0.5) < 0.15


def test_the_vectoriser_never_sees_the_tested_fold():
    labels = np.tile([True, False], 20)
    texts = [f"word{row // 2}{'good' if label else 'bad'}" for row, label in enumerate(labels)]
    folds = np.arange(40) // 2 % 5
    # Every word is new in its fold, so nothing can be known about it.
    scores = ngram_word_scores([text + " the" for text in texts], labels, folds, range(5))
    assert accuracy(scores, labels, np.arange(40)) == 0.5


@pytest.mark.parametrize(
    ("scores", "vectoriser"),
    [
        (ngram_word_scores, {"analyzer": "word", "ngram_range": (1, 2)}),
        (ngram_char_scores, {"analyzer": "char", "ngram_range": (2, 4)}),
    ],
)
def test_counting_once_gives_what_scikit_learn_gives_fold_by_fold(rng, scores, vectoriser):
    words = np.array(["kind", "cruel", "city", "letter", "of", "the", "Paris", "1984"])
    texts = [" ".join(words[rng.integers(0, 8, 9)]) for _ in range(120)]
    labels, folds = np.array(["kind" in text for text in texts]), rng.integers(0, 4, 120)
    found = scores(texts, labels, folds, range(4))
    documents = np.array(texts, dtype=object)
    for fold in range(4):
        test = folds == fold
        model = make_pipeline(
            TfidfVectorizer(min_df=2, lowercase=False, **vectoriser), LogisticRegression(C=10.0, solver="newton-cg")
        ).fit(documents[~test], labels[~test])
        np.testing.assert_allclose(found[test], model.predict_proba(documents[test])[:, 1], atol=1e-3)


def test_scores_are_computed_once_for_texts_labels_and_folds(rng, monkeypatch):
    fitted = []
    computed = floors._out_of_fold
    monkeypatch.setattr(floors, "_out_of_fold", lambda *given: fitted.append(given) or computed(*given))
    texts, labels = [f"once {rng.integers(9)} of {rng.integers(9)} here" for _ in range(40)], np.tile([True, False], 20)
    folds = np.arange(40) // 2 % 5
    first = surface_scores(texts, labels, folds, range(5))
    assert surface_scores(list(texts), labels.copy(), folds.astype(np.int32), (0, 1, 2, 3, 4)) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    others = (
        ([*texts[1:], "a"], labels, folds, range(5)),
        (texts, ~labels, folds, range(5)),
        (texts, labels, (folds + 1) % 5, range(5)),
        (texts, labels, folds, range(4)),
    )
    for given in others:
        np.testing.assert_array_equal(surface_scores(*given), surface_scores.__wrapped__(*given))
    assert len(fitted) == 1 + 2 * len(others)
    ngram_char_scores(texts, labels, folds, range(5))
    assert len(fitted) == 2 + 2 * len(others)


def test_surface_statistics_count_what_they_say():
    np.testing.assert_array_equal(surface_statistics(["Oh, No!"]), [[7, 2, 2, 2]])


def test_length_alone_is_found_by_the_surface_floor():
    labels = np.tile([True, False], 30)
    texts = ["word " * (8 if label else 2) for label in labels]
    assert accuracy(surface_scores(texts, labels, np.arange(60) // 2 % 5, range(5)), labels, np.arange(60)) == 1


def test_the_last_words_floor_reads_only_it():
    labels = np.tile([True, False], 30)
    folds = np.arange(60) // 2 % 5
    decided = [f"{row} yes {'now' if label else 'then'}" for row, label in enumerate(labels)]
    assert accuracy(last_word_scores(decided, labels, folds, range(5)), labels, np.arange(60)) == 1
    elsewhere = [f"{'now' if label else 'then'} {row} yes" for row, label in enumerate(labels)]
    assert accuracy(last_word_scores(elsewhere, labels, folds, range(5)), labels, np.arange(60)) == 0.5


@pytest.mark.parametrize(
    ("name", "word", "char", "surface"),
    [("toxigen", 0.787, 0.786, 0.582), ("confaide", 0.794, 0.800, 0.589), ("sst2", 0.565, 0.782, 0.994)],
)
def test_the_floors_of_the_papers_files_are_those_measured_elsewhere(shared_data, name, word, char, surface):
    frame = pd.read_csv(shared_data / f"{name}.csv", keep_default_na=False)
    texts, labels = frame["statement"].tolist(), frame["label"].to_numpy() == 1
    _, test = sequential_split(len(texts), 0.8)
    folds = np.zeros(len(texts), np.int64)
    folds[test] = 1
    assert accuracy(ngram_word_scores(texts, labels, folds, (1,)), labels, test) == pytest.approx(word, abs=0.01)
    assert accuracy(ngram_char_scores(texts, labels, folds, (1,)), labels, test) == pytest.approx(char, abs=0.01)
    assert accuracy(surface_scores(texts, labels, folds, (1,)), labels, test) == pytest.approx(surface, abs=0.01)


def test_the_papers_split_of_sst2_leaks_as_measured_elsewhere(shared_data):
    frame = pd.read_csv(shared_data / "sst2.csv", keep_default_na=False)
    groups = np.unique([BENCHMARKS["sst2"].group_of(text) for text in frame["statement"]], return_inverse=True)[1]
    train, test = sequential_split(len(frame), 0.8)
    assert group_leakage(groups, train, test) == pytest.approx(605 / 729, abs=0.002)
