import re

import numpy as np
import pytest

from pipelines.statements.floors import ngram_char_scores, ngram_word_scores
from pipelines.statements.packaged import SOURCES, packaged_statements
from pipelines.statements.sources import load_statements
from pipelines.statements.splits import group_folds
from pipelines.sweep.halves import calibration_halves
from pipelines.sweep.protocol import FittingProtocol
from registry.dimensions import DIMENSIONS
from registry.errors import UnknownName


def test_every_dimension_has_its_statements_and_a_card():
    assert set(SOURCES) == set(DIMENSIONS)
    for source in SOURCES.values():
        assert source.card.question
        assert source.card.licence
        assert source.card.citation


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_they_are_balanced_made_anew_alike_and_end_alike(dimension):
    statements = packaged_statements(dimension)
    assert statements.digest == packaged_statements(dimension).digest
    assert statements.digest != packaged_statements(dimension, seed=1).digest
    assert abs(statements.labels.mean() - 0.5) < 0.1
    assert statements.n >= 600
    # The last token is what is read: it must not tell.
    assert all(text.endswith(".") for text in statements.texts)


@pytest.mark.parametrize("dimension", ["reliability", "privacy", "toxicity", "robustness"])
def test_words_and_letters_tell_little_about_them(dimension):
    statements = packaged_statements(dimension)
    folds = group_folds(statements.groups, statements.labels, 5, 0)
    for scores in (ngram_word_scores, ngram_char_scores):
        accuracy = ((scores(statements.texts, statements.labels, folds, range(5)) > 0.5) == statements.labels).mean()
        assert accuracy < 0.70


def test_every_country_is_as_often_false_as_true():
    statements = packaged_statements("reliability")
    countries = np.array([text.rsplit(" in ", 1)[1] for text in statements.texts])
    for country in set(countries):
        assert statements.labels[countries == country].mean() == 0.5


def test_tested_claims_share_no_city_or_country():
    statements = packaged_statements("reliability")
    folds = group_folds(statements.groups, statements.labels, 5, 0)
    names = [re.findall(r"[A-Z]\w+", text.removeprefix("The ")) for text in statements.texts]
    for fold in range(5):
        seen = {name for row in np.flatnonzero(folds != fold) for name in names[row]}
        tested = {name for row in np.flatnonzero(folds == fold) for name in names[row]}
        # Words such as South or United belong to several countries.
        assert len(seen & tested) <= 8


def test_a_citys_claims_are_a_subgroup_within_its_region():
    statements = packaged_statements("reliability")
    assert statements.subgroups is not None
    assert packaged_statements("toxicity").subgroups is None
    cities = [re.match(r"(?:The city of )?(\w+)", text).group(1) for text in statements.texts]
    n = len(set(cities))
    assert len(set(zip(cities, statements.subgroups, strict=True))) == len(set(statements.subgroups)) == n
    assert len(set(zip(statements.subgroups, statements.groups, strict=True))) == n
    validation, test = (set(half.groups) for half in calibration_halves(statements, FittingProtocol()))
    assert min(len(validation), len(test)) >= 20
    assert validation.isdisjoint(test)


def test_a_dimension_without_packaged_data_is_refused():
    with pytest.raises(UnknownName, match="packaged data"):
        packaged_statements("politeness")


def test_what_experiments_load_has_the_cities_too():
    """By the way that ``-e calibrate`` and ``-e evaluate`` take."""
    loaded = load_statements(DIMENSIONS["reliability"], "packaged")
    assert loaded.subgroups is not None
    assert all(len(np.unique(half.groups)) >= 20 for half in calibration_halves(loaded, FittingProtocol()))
    fewer = load_statements(DIMENSIONS["reliability"], "packaged", limit=300)
    assert fewer.subgroups is not None
    assert len(fewer.subgroups) == fewer.n


@pytest.mark.parametrize("dimension", ["reliability", "privacy", "toxicity"])
def test_frames_are_told_and_hold_both_labels_alike(dimension):
    statements = packaged_statements(dimension)
    frames = SOURCES[dimension].frames
    assert len(np.unique(statements.frames)) == len(frames)
    for place, frame in enumerate(frames):
        inside = statements.frames == place
        opening = frame.partition("{")[0]
        assert all(text.startswith(opening) for text, own in zip(statements.texts, inside, strict=True) if own)
        assert statements.labels[inside].mean() == statements.labels.mean()
    assert packaged_statements("fairness").frames is None
    few = statements.subset(100, 0)
    assert len(few.frames) == few.n
