import numpy as np
import pytest

from pipelines.probe.ladder import LADDER_COLUMNS, ladder_table, lexical_ladder
from pipelines.probe.selection import select_layer
from pipelines.statements.contrast_words import contrast_words, holds_any
from pipelines.statements.labelled import LabelledStatements
from tests.pipelines.probe.units import PROTOCOL, unit

TOPICS = [f"topic{number}" for number in range(60)]
N = 4 * len(TOPICS)


def statements(bare="plain"):
    """Of each topic two statements with a word that tells the label, and two that only the model can tell."""
    rows = [
        (f"{topic} is {word} {number}", label, group)
        for group, topic in enumerate(TOPICS)
        for number, word, label in ((1, "kind", True), (2, "cruel", False), (3, bare, True), (4, "plain", False))
    ]
    texts, labels, groups = zip(*rows, strict=True)
    return LabelledStatements("toxicity", texts, np.array(labels), np.array(groups), "small.csv")


def ladder(rng, given, *, reads_words_only):
    told = np.array([" kind " in text or " cruel " in text for text in given.texts])
    signal = np.where(given.labels, 4.0, -4.0) * (told if reads_words_only else 1)
    hidden = rng.normal(size=(2, given.n, 6))
    hidden[1, :, 0] += signal
    return lexical_ladder(select_layer(unit(given, hidden), given, PROTOCOL), given, PROTOCOL)


def numbered(text):
    """Numbers would tell the label too."""
    return text.rsplit(" ", 1)[0]


@pytest.fixture
def given():
    whole = statements()
    texts = tuple(f"{numbered(text)} {row}" for row, text in enumerate(whole.texts))
    return LabelledStatements("toxicity", texts, whole.labels, whole.groups, "small.csv")


def test_a_probe_of_words_stands_on_its_first_rung_alone(given, rng):
    found = ladder(rng, given, reads_words_only=True)
    first, second = found.rungs
    assert (first.stands, second.stands) == ("yes", "no")
    assert second.n == N // 2
    assert second.accuracy.low < 0.5 < second.accuracy.high
    assert found.is_lexical
    assert "such as" in str(found)
    assert {"cruel", "kind"} <= set(second.detail.replace(",", "").split())
    assert str(found).endswith("lexical, it stands on words alone")


def test_a_probe_of_meaning_stands_on_both(given, rng):
    found = ladder(rng, given, reads_words_only=False)
    assert [rung.stands for rung in found.rungs] == ["yes", "yes"]
    assert found.rungs[1].accuracy.low > 0.9
    assert not found.is_lexical
    assert "lexical" not in str(found)


def test_nothing_left_cannot_be_told(rng):
    texts = tuple(f"{topic} is {word}" for topic in TOPICS for word in ("kind", "cruel"))
    given = LabelledStatements("toxicity", texts, np.tile([True, False], 60), np.arange(120) // 2, "small.csv")
    found = ladder(rng, given, reads_words_only=True)
    assert (found.rungs[1].accuracy, found.rungs[1].n, found.rungs[1].stands) == (None, 0, "cannot be told")
    assert not found.is_lexical  # it is not shown to fall


def test_words_of_the_tested_fold_have_no_part(given, monkeypatch):
    """A word is telling by the folds that a probe was fitted on."""
    seen = []
    monkeypatch.setattr("pipelines.probe.ladder.contrast_words", lambda texts, _: seen.append(len(texts)) or ())
    found = ladder(np.random.default_rng(0), given, reads_words_only=True)
    assert seen == [N * 4 // 5] * 5
    assert found.rungs[1].accuracy.value == pytest.approx(found.rungs[0].accuracy.value)


def test_the_table_has_a_row_a_rung(given, rng):
    table = ladder_table([ladder(rng, given, reads_words_only=True)])
    assert tuple(table.columns) == LADDER_COLUMNS
    assert table["rung"].tolist() == ["in distribution", "no shared contrast words"]
    assert table["stands"].tolist() == ["yes", "no"]


def test_contrast_words_are_those_that_tell():
    texts = [f"the {word} {number % 7}" for number in range(40) for word in ("good", "bad", "odd", "odd")]
    labels = np.tile([True, False, True, False], 40)
    assert set(contrast_words(texts, labels)) == {"good", "bad"}
    assert holds_any(["A Good one", "goodness", "odd"], ("good", "bad")).tolist() == [True, False, False]
    assert holds_any(["good"], ()).tolist() == [False]
