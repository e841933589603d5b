import dataclasses

import numpy as np
import pandas as pd
import pytest

from pipelines.statements.benchmarks import BENCHMARKS
from pipelines.statements.files import rows_in_file
from pipelines.statements.findings import findings
from pipelines.statements.lexicons import stereoset_contexts
from pipelines.statements.quality import inspect_rows
from pipelines.statements.sources import load_rows, load_statements
from pipelines.statements.splits import sequential_split
from registry.dimensions import DIMENSIONS, FAIRNESS, TOXICITY
from registry.errors import CorruptFile, InvalidInput, NotFound, UnknownName

ROWS = pd.DataFrame({"statement": ["kind words", "cruel words", "more kind", "more cruel"], "label": [1, 0, 1, 0]})


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_statements(tmp_path, suffix):
    path = tmp_path / f"toxicity{suffix}"
    if suffix == ".csv":
        ROWS.to_csv(path, index=False)
    elif suffix == ".jsonl":
        ROWS.to_json(path, orient="records", lines=True)
    else:
        ROWS.to_parquet(path)
    statements = load_statements(TOXICITY, str(tmp_path))
    assert statements.texts == tuple(ROWS["statement"])
    assert list(statements.labels) == [True, False, True, False]
    assert statements.source == f"file:toxicity{suffix}"


def test_groups_pairs_and_splits_are_the_users(tmp_path):
    path = tmp_path / "toxicity.csv"
    ROWS.assign(group=["x", "x", "y", "y"], split=["train", "train", "test", "test"]).to_csv(path, index=False)
    statements = rows_in_file(path, TOXICITY).statements()
    assert list(statements.groups) == [0, 0, 1, 1]
    assert statements.split == ("train", "train", "test", "test")
    ROWS.assign(pair=[1, 2, 2, 1]).to_csv(path, index=False)
    assert list(rows_in_file(path, TOXICITY).statements().groups) == [0, 1, 1, 0]


def test_equal_texts_stay_together_and_blanks_tie_nothing(tmp_path):
    path = tmp_path / "toxicity.csv"
    path.write_text("statement,label,group\nKind words,1,x\nvile,0,\nodd,0,\nkind  words,1,y\nmean,0,y\n")
    assert list(rows_in_file(path, TOXICITY).groups) == [0, 1, 2, 0, 0]


def test_what_spreadsheets_write_is_read(tmp_path):
    path = tmp_path / "toxicity.csv"
    path.write_bytes('\ufeffstatement,label\r\n"Grüße, NA",TRUE\r\nNA,False\r\n'.encode())
    statements = rows_in_file(path, TOXICITY).statements()
    assert statements.texts == ("Grüße, NA", "NA")
    assert list(statements.labels) == [True, False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\nx,1\n", "no column statement; it has text, label"),
        ("", "toxicity.csv is empty"),
        ("statement,label\n", "toxicity.csv has no rows"),
        ("statement,label,split\na,1,train\nb,0,dev\n", "the split 'dev' in row 2 \\(line 3\\); use train and test"),
        ("statement,label,group,split\na,1,x,train\nb,0,x,test\nc,1,y,test\n", "leaks: both .* of 1 group,"),
        ("statement,label\na,1\nb,2\n", "1 label other than 0 and 1, the first in row 2 \\(line 3\\): '2'"),
        ("statement,label\na,1\n,0\n", "1 row without a statement, the first in row 2"),
        ("statement,label\na,1\nb,1\n", "all statements .* \\(n = 2\\) have label 1"),
        ("statement,label\na,1\na,0\nb,0\n", "both labels to 1 text, such as 'a'"),
    ],
)
def test_bad_files_are_met_with_a_sentence(tmp_path, content, words):
    (tmp_path / "toxicity.csv").write_text(content)
    with pytest.raises(InvalidInput, match=words):
        load_statements(TOXICITY, str(tmp_path))


def test_a_file_that_is_not_what_it_says_is_refused(tmp_path):
    (tmp_path / "toxicity.parquet").write_bytes(b"not parquet")
    with pytest.raises(CorruptFile, match="could not be read as parquet"):
        load_statements(TOXICITY, str(tmp_path))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InvalidInput, match=r"not one of \.csv"):
        load_statements(TOXICITY, str(tmp_path / "notes.txt"))


def test_a_directory_without_the_dimension_says_what_would_serve(tmp_path):
    ROWS.to_csv(tmp_path / "privacy.csv", index=False)
    with pytest.raises(NotFound, match=r"toxicity\.csv or toxigen\.csv would serve .* there: privacy\.csv"):
        load_statements(TOXICITY, str(tmp_path))


def test_an_unknown_source_or_path_names_what_exists():
    with pytest.raises(UnknownName, match="did you mean 'packaged'"):
        load_statements(TOXICITY, "pakaged")
    with pytest.raises(NotFound, match=r"there is no mine\.csv; give a directory"):
        load_statements(TOXICITY, "mine.csv")


def test_a_mix_gives_each_dimension_its_own(tmp_path):
    ROWS.to_csv(tmp_path / "mine.csv", index=False)
    mix = f"toxicity={tmp_path / 'mine.csv'},privacy=packaged"
    assert load_statements(TOXICITY, mix).source == "file:mine.csv"
    assert load_statements(DIMENSIONS["privacy"], mix).source.startswith("packaged:")
    with pytest.raises(InvalidInput, match="names no source for fairness"):
        load_statements(DIMENSIONS["fairness"], mix)


def test_a_benchmarks_polarity_groups_and_faults_are_known(tmp_path):
    (tmp_path / "truthfulqa_train.csv").write_text(
        "statement,label\nQ: Why?\tA: So.,1\nQ: Why?\tA: Not so.,0\n"
        "Q: Who?\tA: He.,1\nQ: Who?\tA: He.,1\nQ: Who?\tA: She.,0\n"
    )
    statements = load_statements(DIMENSIONS["reliability"], str(tmp_path))
    assert statements.source == "truthfulqa_train@paper"
    assert statements.n == 4
    assert list(statements.labels) == [True, False, True, False]
    assert len(set(statements.groups)) == 2
    (tmp_path / "toxigen.csv").write_text("statement,label\nnice,0\nvile,1\nodd,0\nodd,1\n")
    toxic = load_statements(TOXICITY, str(tmp_path))
    assert dict(zip(toxic.texts, toxic.labels, strict=True)) == {"nice": True, "vile": False}


def test_stereosets_release_is_grouped_by_its_published_contexts(tmp_path):
    """A first sentence is not enough: contexts may end without a full stop, or hold one within."""
    contexts = stereoset_contexts()
    unended = sorted(context for context in contexts if not context.endswith((".", "!", "?")))[:6]
    longer = sorted(context for context in contexts if ". " in context)
    assert unended and longer
    rows = [
        {"statement": f"{context} {continuation}", "label": label}
        for context in (*unended, *longer)
        for label, continuation in enumerate(("Water is cold.", "They  are kind. They help."))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "stereoset.csv", index=False)
    stereoset = load_rows(FAIRNESS, str(tmp_path))
    assert list(stereoset.groups[::2]) == list(stereoset.groups[1::2])
    assert len(set(stereoset.groups)) == len(unended) + len(longer)
    assert list(stereoset.labels[:2]) == [True, False]
    sentences = " ".join(finding.sentence for finding in findings(inspect_rows(stereoset)))
    assert "label 1 is the anti-stereotypical continuation and label 0 an unrelated one" in sentences


@pytest.mark.parametrize(("dimension", "rows"), [("toxicity", 6514), ("privacy", 2346), ("robustness", 3642)])
def test_the_papers_released_files_load_as_they_are(shared_data, dimension, rows):
    name = {"toxicity": "toxigen", "privacy": "confaide", "robustness": "sst2"}[dimension]
    raw = pd.read_csv(shared_data / f"{name}.csv", keep_default_na=False)
    assert len(raw) == rows
    statements = load_statements(DIMENSIONS[dimension], str(shared_data))
    conflicting = raw.groupby("statement")["label"].transform("nunique") > 1
    assert statements.n == raw[~conflicting]["statement"].nunique()
    by_text = dict(zip(raw["statement"], raw["label"], strict=True))
    assert all(label == (by_text[text] == 0) for text, label in zip(statements.texts, statements.labels, strict=True))


@pytest.mark.parametrize(
    ("name", "n_test", "untrustworthy"), [("toxigen", 1303, 3633), ("confaide", 470, 1173), ("sst2", 729, 1821)]
)
def test_released_files_keep_the_papers_rows(shared_data, name, n_test, untrustworthy):
    dimension = DIMENSIONS[BENCHMARKS[name].dimension]
    statements = load_statements(dimension, str(shared_data), as_released=True)
    _, test = sequential_split(statements.n, 0.8)
    assert len(test) == n_test
    assert int((~statements.labels).sum()) == untrustworthy
    assert load_statements(dimension, str(shared_data)).n < statements.n


def test_frames_are_the_users_names(tmp_path):
    path = tmp_path / "toxicity.csv"
    path.write_text("statement,label,frame\na is kind,1,short\na is cruel,0,short\nI find a kind,1,1.0\nthat a,0,\n")
    statements = rows_in_file(path, TOXICITY).statements()
    assert len(np.unique(statements.frames)) == 3
    assert statements.frames[0] == statements.frames[1]
    path.write_text("statement,label\na is kind,1\na is cruel,0\n")
    without = rows_in_file(path, TOXICITY).statements()
    assert without.frames is None
    framed = dataclasses.replace(without, frames=np.arange(2))
    assert framed.digest == without.digest  # probes are the same whatever their frames are called
    with pytest.raises(InvalidInput):
        dataclasses.replace(without, frames=np.arange(1))
