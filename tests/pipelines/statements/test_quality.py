from dataclasses import replace

import numpy as np
import pytest

from pipelines.estimators.estimate import Estimate
from pipelines.statements.benchmarks import DatasetCard
from pipelines.statements.findings import findings
from pipelines.statements.inspection import inspect_statements, quality_table, refuse, render
from pipelines.statements.quality import QualityReport, inspect_rows
from pipelines.statements.rows import StatementRows
from pipelines.statements.sources import load_rows
from registry.dimensions import DIMENSIONS
from registry.errors import InvalidInput

CARD = DatasetCard(
    name="x", dimension="toxicity", question="Is it?", trustworthy="kind", group="text", licence="no", citation="nobody"
)
WORDS = ("sun", "moon", "star", "tree", "leaf", "root", "lake", "rain", "snow", "wind")


def rows(texts, labels, groups=None, **others) -> StatementRows:
    keys = np.arange(len(texts)) if groups is None else np.asarray(groups)
    return StatementRows(tuple(texts), np.array(labels, bool), keys.astype(np.int64), "file:x.csv", CARD, **others)


def indifferent(rng, n=80):
    """Texts of two words that say nothing of their labels."""
    return [f"{rng.choice(WORDS)} {rng.choice(WORDS)} {row}" for row in range(n)], np.tile([True, False], n // 2)


def sentences(report: QualityReport, severity: str) -> str:
    return " / ".join(finding.sentence for finding in findings(report) if finding.severity == severity)


def test_statements_without_a_giveaway_raise_no_warning(rng):
    report = inspect_rows(rows(*indifferent(rng)))
    assert sentences(report, "refused") == sentences(report, "warning") == ""
    assert "a probe must beat" in sentences(report, "note")
    refuse([report])


def test_a_bar_below_chance_is_the_commoner_label(rng):
    report = inspect_rows(rows(*indifferent(rng)))
    low = Estimate(0.4, 0.3, 0.45, 80)
    below = replace(report, floors={**report.floors, "grouped": dict.fromkeys(report.floors["grouped"], low)})
    assert "a probe must beat 0.500, from always giving the commoner label" in sentences(below, "note")


def test_a_misspelt_optional_column_is_warned_of(rng):
    report = inspect_rows(rows(*indifferent(rng), unread_columns=("grup", "id")))
    assert sentences(report, "warning") == "column 'grup' is not read; did you mean 'group'?"


def test_length_and_capitals_that_decide_are_found(rng):
    texts, labels = indifferent(rng)
    longer = [text + (" and more of it" if label else "") for text, label in zip(texts, labels, strict=True)]
    report = inspect_rows(rows(longer, labels))
    assert report.aurocs["length"].value > 0.99
    assert report.floors["grouped"]["surface"].value == 1
    longer[:20] = texts[:20]
    assert "trustworthy statements have more characters" in sentences(inspect_rows(rows(longer, labels)), "warning")
    louder = [text if label else text.upper() for text, label in zip(texts, labels, strict=True)]
    assert "fewer capitals" in sentences(inspect_rows(rows(texts[:20] + louder[20:], labels)), "warning")


def test_a_last_word_that_decides_is_found(rng):
    texts, labels = indifferent(rng)
    endings = ["ok" if label != (row < 8) else "no" for row, label in enumerate(labels)]
    report = inspect_rows(rows([f"{text} {ending}" for text, ending in zip(texts, endings, strict=True)], labels))
    assert report.floors["grouped"]["last_word"].value == 0.9
    assert not report.is_lexical
    assert "from the last word alone" in sentences(report, "warning")


def test_texts_that_decide_are_one_conclusion_with_what_to_do(rng):
    texts, labels = indifferent(rng)
    decided = [f"{text} is {'so kind' if label else 'cruel'}" for text, label in zip(texts, labels, strict=True)]
    report = inspect_rows(rows(decided, labels))
    assert report.is_lexical
    (warning,) = [finding.sentence for finding in findings(report) if finding.severity == "warning"]
    assert "the text alone decides the label: " in warning
    assert "do not become champions; write minimal pairs" in warning


@pytest.mark.parametrize(
    ("texts", "seen"),
    [
        ([f"{a} + {b} = {a + b + wrong}" for a in range(1, 6) for b in range(1, 4) for wrong in (0, 1)], "one letter"),
        ([f"{'好' if row % 2 else '坏'}{chr(0x4E00 + row)}的人。" for row in range(30)], "even those of one statement"),
        ([f"{chr(97 + row)}{'ly' if row % 2 else 'ish'}" for row in range(20)], "even those of one statement"),
        ([f"{chr(97 + row)}" for row in range(20)], "even those of one statement"),
        ([chr(0x1F600 + row) for row in range(20)], "whatever stands between spaces"),
    ],
)
def test_floors_work_in_any_script_and_say_what_they_see(texts, seen):
    report = inspect_rows(rows(texts, np.arange(len(texts)) % 2 == 1))
    assert set(report.floors["grouped"]) == {"last_word", "surface", "ngram_word", "ngram_char"}
    assert seen in report.seen["ngram_word"]
    assert f"so this floor is {report.seen['ngram_word']}" in sentences(report, "note")


def test_columns_that_are_not_read_are_named(rng):
    report = inspect_rows(rows(*indifferent(rng), unread_columns=("groups", "id")))
    assert "columns that are not read: groups, id; those that are: statement" in sentences(report, "note")


def test_copies_conflicts_and_artefacts_are_counted(rng):
    texts, labels = indifferent(rng)
    texts += [texts[0], texts[1], texts[1], "a_x000D_b"]
    labels = np.append(labels, [not labels[0], labels[1], labels[1], True])
    groups = [*range(80), 0, 1, 1, 80]
    report = inspect_rows(rows(texts, labels, groups))
    assert (report.n, report.duplicates, report.conflicting, report.artefacts) == (84, 3, 1, 1)
    assert report.n_kept == 80
    assert "both labels: 1" in sentences(report, "refused")
    with pytest.raises(InvalidInput, match="file:x.csv: texts that carry both labels: 1"):
        refuse([report])
    dropped = inspect_rows(rows(texts, labels, groups, conflicts="drop"))
    assert sentences(dropped, "refused") == ""
    assert "both labels: 1, which are dropped" in sentences(dropped, "warning")


def test_one_class_or_few_groups_are_refused():
    report = inspect_rows(rows(["a", "b", "c"], [True, True, True]))
    assert report.floors == {} and report.aurocs == {}
    assert "all statements (n = 3) have one label" in sentences(report, "refused")
    assert "3 groups cannot be split into 5 folds" in sentences(report, "refused")
    assert "3 statements" in render(report)


def test_a_split_of_the_users_that_leaks_is_refused(rng):
    texts, labels = indifferent(rng)
    split = tuple("train" if row < 60 else "test" for row in range(80))
    clean = inspect_rows(rows(texts, labels, split=split))
    assert clean.split_leakage == 0
    assert sentences(clean, "refused") == ""
    leaking = inspect_rows(rows(texts, labels, [row % 40 for row in range(80)], split=split))
    assert leaking.split_leakage == 1
    assert "the split column leaks: 100.0%" in sentences(leaking, "refused")


def test_the_papers_split_needs_a_chosen_order(rng):
    texts, labels = indifferent(rng)
    pairs = [row % 40 for row in range(80)]
    assert inspect_rows(rows(texts, labels, pairs)).sequential_leakage == 1
    unordered = inspect_rows(rows(texts, labels, pairs, in_file_order=False))
    assert unordered.sequential_leakage is None
    assert list(unordered.floors) == ["grouped"]


def test_the_table_has_every_measure_with_interval(rng):
    report = inspect_rows(rows(*indifferent(rng)))
    table = quality_table([report]).set_index("measure")
    assert table.loc["n", "value"] == 80
    assert table.loc["ngram_char_grouped", "value"] == report.floors["grouped"]["ngram_char"].value
    assert table.loc["length_auroc", "low"] <= table.loc["length_auroc", "value"] <= table.loc["length_auroc", "high"]
    assert set(table["dimension"]) == {"toxicity"}


PUBLISHED = {
    "toxicity": {
        "n": 6514, "n_trustworthy": 2881, "duplicates": 76, "conflicting": 6, "artefacts": 34, "leakage": 0.018,
        "sequential": {"ngram_word": 0.787, "ngram_char": 0.786, "last_word": 0.589, "surface": 0.582},
        "grouped": {"ngram_word": 0.781, "ngram_char": 0.786},
    },
    "privacy": {
        "n": 2346, "n_trustworthy": 1173, "duplicates": 77, "conflicting": 3, "artefacts": 0, "leakage": 0.043,
        "sequential": {"ngram_word": 0.794, "ngram_char": 0.800, "last_word": 0.681, "surface": 0.589},
        "grouped": {"ngram_word": 0.799, "ngram_char": 0.797},
    },
    "robustness": {
        "n": 3642, "n_trustworthy": 1821, "duplicates": 14, "conflicting": 14, "artefacts": 0, "leakage": 0.830,
        "sequential": {"ngram_word": 0.565, "ngram_char": 0.782, "last_word": 0.471, "surface": 0.994},
        "grouped": {"ngram_word": 0.762, "ngram_char": 0.940},
    },
}  # fmt: skip
"""Measured by others on the released files, with scikit-learn's GroupKFold for the grouped accuracies."""


@pytest.mark.parametrize("dimension", PUBLISHED)
def test_the_released_files_show_the_faults_and_floors_measured_elsewhere(shared_data, dimension):
    (report,) = inspect_statements([DIMENSIONS[dimension]], str(shared_data))
    expected = PUBLISHED[dimension]
    for count in ("n", "n_trustworthy", "duplicates", "conflicting", "artefacts"):
        assert getattr(report, count) == expected[count]
    assert report.sequential_leakage == pytest.approx(expected["leakage"], abs=0.001)
    for split in ("sequential", "grouped"):
        for name, accuracy in expected[split].items():
            assert report.floors[split][name].value == pytest.approx(accuracy, abs=0.01), (split, name)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_of_the_users_split_needs_both_classes(tmp_path, part):
    rows = [f"a {number},{number % 2},{part}" for number in range(40)]
    (tmp_path / "toxicity.csv").write_text("\n".join(["statement,label,split", *rows]))
    other = "test" if part == "train" else "train"
    report = inspect_rows(load_rows(DIMENSIONS["toxicity"], str(tmp_path)))
    assert f"the {other} part of the split column holds one class only" in sentences(report, "refused")


def test_a_class_that_is_too_rare_is_refused(tmp_path):
    rows = [f"a text {number},{int(number < 3)}" for number in range(100)]
    (tmp_path / "toxicity.csv").write_text("\n".join(["statement,label", *rows]))
    with pytest.raises(InvalidInput, match="file:toxicity.csv: a fold of 100 groups holds one class only"):
        inspect_rows(load_rows(DIMENSIONS["toxicity"], str(tmp_path)))
