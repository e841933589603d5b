import mlflow
import numpy as np
import pandas as pd
import pytest

from pipelines.cli.command import run_command
from pipelines.estimators.estimate import Estimate
from pipelines.estimators.linear_probe import predict_further
from pipelines.probe import ladder as ladders
from pipelines.probe import rungs
from pipelines.probe.__main__ import main
from pipelines.probe.ladder import (
    ELSEWHERE,
    LADDER_COLUMNS,
    REWORDED,
    ladder_table,
    ladder_verdict,
    lexical_ladder,
)
from pipelines.probe.other_source import COUNTERPARTS, OtherSource, other_source, other_sources
from pipelines.probe.rungs import RungResult, in_other_frames
from pipelines.probe.selection import select_layer
from pipelines.statements.contrast_words import contrast_words, holds_any
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.packaged import packaged_statements
from pipelines.statements.sources import load_statements
from pipelines.sweep.folds import split_statements
from registry.dimensions import DIMENSIONS, TOXICITY, Dimension
from registry.errors import Unavailable
from tests.mutants import mutant
from tests.pipelines.probe.units import PROTOCOL, unit
from tests.small_statements import write_statements

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
    first, second, *_ = found.rungs
    assert (first.stands, second.stands) == ("yes", "no")
    assert second.n == N // 2
    assert second.value.low < 0.5 < second.value.high
    assert found.is_lexical
    assert "such as" in str(found)
    assert {"cruel", "kind"} <= set(second.detail.replace(",", "").split())
    assert str(found).endswith("lexical, it stands on words alone")
    assert ladder_verdict([found]) == " Lexical, at chance beyond its own words: toxicity."


def test_a_probe_of_meaning_stands_on_both(given, rng):
    found = ladder(rng, given, reads_words_only=False)
    assert [rung.stands for rung in found.rungs[:2]] == ["yes", "yes"]
    assert found.rungs[1].value.low > 0.9
    assert not found.is_lexical
    assert "lexical" not in str(found)


def test_nothing_left_cannot_be_told(rng):
    texts = tuple(f"{topic} is {word}" for topic in TOPICS for word in ("kind", "cruel"))
    given = LabelledStatements("toxicity", texts, np.tile([True, False], 60), np.arange(120) // 2, "small.csv")
    found = ladder(rng, given, reads_words_only=True)
    assert (found.rungs[1].value, found.rungs[1].n, found.rungs[1].stands) == (None, 0, "cannot be told")
    assert "cannot be told, too few: 0 of 120 statements, without words such as " in str(found)
    assert not found.is_lexical  # it is not shown to fall


def test_words_of_the_tested_fold_have_no_part(given, monkeypatch):
    """A word is telling by the folds that a probe was fitted on."""
    seen = []
    monkeypatch.setattr("pipelines.probe.ladder.contrast_words", lambda texts, _: seen.append(len(texts)) or ())
    found = ladder(np.random.default_rng(0), given, reads_words_only=True)
    assert seen == [N * 4 // 5] * 5
    assert found.rungs[1].value.value == pytest.approx(found.rungs[0].value.value)


def test_the_table_has_a_row_a_rung(given, rng):
    table = ladder_table([ladder(rng, given, reads_words_only=True)])
    assert tuple(table.columns) == LADDER_COLUMNS
    assert table["rung"].tolist() == [
        "in distribution", "no shared contrast words", "reworded frames", "another source"
    ]  # fmt: skip
    assert table["stands"].tolist() == ["yes", "no", "cannot be told", "cannot be told"]
    assert table["measure"].tolist() == ["accuracy"] * 3 + ["AUROC"]
    assert table["lexical"].all()


def test_contrast_words_are_those_that_tell():
    texts = [f"the {word} {number % 7}" for number in range(40) for word in ("good", "bad", "odd", "odd")]
    labels = np.tile([True, False, True, False], 40)
    assert set(contrast_words(texts, labels)) == {"good", "bad"}
    assert holds_any(["A Good one", "goodness", "odd"], ("good", "bad")).tolist() == [True, False, False]
    assert holds_any(["good"], ()).tolist() == [False]


FRAMES = 3
OWN = Dimension("humility", "doubting oneself", "doubt", "certainty")


def framed(topics=60, source="framed.csv"):
    """Of each topic a trustworthy and another statement in each of three frames; every word has both labels."""
    rows = [
        (f"{source} {topic} frame{frame} {mark}", label, topic, frame)
        for topic in range(topics)
        for frame in range(FRAMES)
        for mark, label in (("x", True), ("y", False))
    ]
    texts, labels, groups, frames = zip(*rows, strict=True)
    marks = np.array(labels)
    texts = tuple(f"{text.rsplit(' ', 1)[0]} {'xy'[int(number % 2)]}{number}" for number, text in enumerate(texts))
    return LabelledStatements("toxicity", texts, marks, np.array(groups), source, frames=np.array(frames))


def planted(rng, given, kind):
    """Activations in which the label is read by one direction, by one of each frame, or by one of this source."""
    hidden, signal = rng.normal(size=(given.n, 8)), np.where(given.labels, 3.0, -3.0)
    if kind == "real" or (kind == "of its source" and given.source == "framed.csv"):
        hidden[:, 0] += signal
    if kind == "of its frames" and given.source == "framed.csv":
        hidden[np.arange(given.n), given.frames] += signal
    return hidden.astype(np.float32)


def climbed(kind, module=rungs, seed=0):
    """The ladder of planted activations, its further rungs as a sweep would leave them."""
    rng = np.random.default_rng(seed)
    given, other = framed(), framed(40, "other.csv")
    noise, hidden = rng.normal(size=(given.n, 8)).astype(np.float32), planted(rng, given, kind)
    probe = select_layer(unit(given, [noise, hidden]), given, PROTOCOL)
    assert {choice.layer for choice in probe.choices} == {1}
    assert len(probe.choices) == 5
    folds = split_statements(given, PROTOCOL).folds
    plans = [(choice.seed, choice.fold) for choice in probe.choices]
    result = RungResult(
        digest="", checkpoint=probe.result.checkpoint, weights_digest="", dimension="toxicity", statements_digest="",
        statements_source="", precision="float32", seeds=tuple(seed for seed, _ in plans),
        folds=tuple(fold for _, fold in plans), reworded=module.in_other_frames(hidden, given, folds, plans),
        elsewhere=predict_further(hidden, given.labels, folds, plans, planted(rng, other, kind)).T, refused="",
        seconds=0.0,
    )  # fmt: skip
    return lexical_ladder(probe, given, PROTOCOL, [result], OtherSource(other))


def stands(found):
    return {rung.name: rung.stands for rung in found.rungs[2:]}


PLANTED = {
    "real": {REWORDED: "yes", ELSEWHERE: "yes"},
    "of its source": {REWORDED: "yes", ELSEWHERE: "no"},
    "of its frames": {REWORDED: "no", ELSEWHERE: "no"},
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_signal_stands_as_far_as_it_reaches(kind):
    found = climbed(kind)
    assert found.rungs[0].stands == "yes"
    assert found.rungs[0].value.low > 0.8
    assert stands(found) == PLANTED[kind]
    assert found.rungs[2].n == FRAMES * 120
    assert found.rungs[3].n == FRAMES * 80


def test_what_falls_is_named():
    assert ladder_verdict([climbed("real")]) == ""
    assert ladder_verdict([climbed("of its source")]) == " Not read on another source: toxicity."
    assert str(climbed("of its frames")).endswith("not on reworded frames and another source")


def test_a_mutant_that_fits_on_the_tested_frame_is_told():
    passage = "predict_further(features[~inside], labels, outside, plans, features[inside]"
    replacement = "predict_further(features, statements.labels, folds, plans, features[inside]"
    with mutant(rungs, passage, replacement) as changed:
        assert stands(climbed("of its frames", changed)) != PLANTED["of its frames"]


def near(value, half=0.05):
    return Estimate(value, value - half, value + half, 100)


LEXICAL = (
    ((0.9, 0.5, None, None), True, 1),
    ((0.9, 0.54, 0.5, 0.5), True, 3),
    ((0.9, None, None, None), False, 0),  # not shown to fall
    ((0.9, 0.5, 0.9, 0.5), False, 2),
    ((0.9, 0.5, None, 0.6), False, 1),
    ((0.9, 0.9, 0.9, 0.2), False, 1),  # read the wrong way round
    ((0.5, 0.5, 0.5, 0.5), False, 0),  # nothing to fall from
)


def check_rules(module=ladders):
    for values, lexical, fallen in LEXICAL:
        found = module.Ladder(None, tuple(module.Rung(str(n), v and near(v), 100, "") for n, v in enumerate(values)))
        assert (found.is_lexical, len(found.fallen)) == (lexical, fallen), values


RULE_MUTANTS = {
    "above chance by its point": ("self.value.low > CHANCE", "self.value.value > CHANCE"),
    "a fall need not be shown": ("return bool(self.fallen) and all(", "return all("),
    "one fall is enough": ("return bool(self.fallen) and all(", "return bool(self.fallen) or all("),
    "below chance stands": ('FALLEN = ("no", "reversed")', 'FALLEN = ("no",)'),
    "fallen without a first rung": (' if first.stands == "yes" else ()', ""),
}


def test_every_rule_of_a_ladder_decides():
    check_rules()


@pytest.mark.parametrize("name", RULE_MUTANTS)
def test_the_table_tells_a_mutant(name):
    with mutant(ladders, *RULE_MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_rules(changed)


def test_a_probe_reads_what_it_never_saw(rng):
    """Not the statement's group: reworded statements of a fitted topic would be remembered."""
    given = framed(30)
    memory = np.repeat(rng.normal(size=(30, 40)), 2 * FRAMES, axis=0).astype(np.float32)
    flipped = rng.random(30) < 0.5
    hidden = memory * np.where(given.labels ^ flipped[given.groups], 1, -1)[:, None].astype(np.float32)
    folds = split_statements(given, PROTOCOL).folds
    predicted = in_other_frames(hidden, given, folds, [(0, fold) for fold in range(5)])
    for fold in range(5):  # each once, by the probe that leaves its fold out
        assert (~np.isnan(predicted[fold]) == (folds[0] == fold)).all()
    right = (np.nanmax(predicted, axis=0) > 0.5) == given.labels
    assert abs(right.mean() - 0.5) < 0.2


def test_frames_of_one_label_cannot_be_told(rng):
    given = framed(30)
    one = LabelledStatements("toxicity", given.texts, given.labels, given.groups, "x", frames=given.labels.astype(int))
    hidden = planted(rng, given, "real")
    assert np.isnan(in_other_frames(hidden, one, split_statements(one, PROTOCOL).folds, [(0, 0)])).all()


def test_one_frame_and_one_source_are_said(given, rng):
    rungs_of = ladder(rng, given, reads_words_only=False).rungs
    assert [rung.stands for rung in rungs_of[2:]] == ["cannot be told"] * 2
    assert rungs_of[2].detail == "the source tells no frames"
    same = LabelledStatements("toxicity", given.texts, given.labels, given.groups, "x", frames=np.zeros(given.n, int))
    assert ladder(rng, same, reads_words_only=False).rungs[2].detail == "all statements are in one frame"
    assert other_source(OWN, given, "packaged").reason == "the dimension has one source"
    assert "none is named by `ladder`" in other_source(TOXICITY, given, "auto").reason
    assert other_source(TOXICITY, given, "none").reason == "`ladder` is none"


@pytest.mark.parametrize("name", DIMENSIONS)
def test_every_packaged_set_has_a_counterpart_of_other_texts(name):
    fitted = packaged_statements(name)
    found = other_source(DIMENSIONS[name], fitted, "auto").statements
    assert found.source == f"packaged:{COUNTERPARTS[name].name}"
    assert found.n >= 150
    assert 0.2 < found.labels.mean() < 0.8
    assert not set(found.texts) & set(fitted.texts)
    assert not [text for text in found.texts if "{" in text]
    assert found.digest == other_source(DIMENSIONS[name], fitted, "packaged").statements.digest


def test_own_statements_have_another_source(given, tmp_path):
    assert other_source(TOXICITY, given, "packaged").statements.source == "packaged:remarks"
    path = tmp_path / "toxicity.csv"
    path.write_text("statement,label\n" + "\n".join(f"{n} is here,{n % 2}" for n in range(40)))
    found = other_source(TOXICITY, given, str(path)).statements
    assert (found.source, found.n) == ("file:toxicity.csv", 40)
    fitted = load_statements(TOXICITY, str(path))
    assert other_source(TOXICITY, fitted, str(path)).reason == "file:toxicity.csv holds the statements fitted on"


def test_packages_that_cannot_be_had_end_no_sweep(given, monkeypatch):
    def unavailable(*_):
        raise Unavailable("the package could not be fetched; go online")

    monkeypatch.setattr("pipelines.probe.other_source.packaged_statements", unavailable)
    found = other_sources([TOXICITY], {"toxicity": given}, "packaged")["toxicity"]
    assert (found.statements, found.reason) == (None, "the package could not be fetched; go online")


def test_a_ladder_of_no_data_is_refused_before_the_sweep(series_directory, tmp_path, tracking, cache, capsys):
    data = write_statements(tmp_path / "data")
    arguments = ["--model", str(series_directory), "--data", str(data), "--ladder", "./missing.csv"]
    assert run_command(main, [*arguments, "--dimensions", "toxicity"]) == 2
    assert "there is no ./missing.csv" in capsys.readouterr().err
    assert not (cache / "probe").exists()


def test_a_sweep_reads_frames_and_another_source(series_directory, tmp_path, tracking, cache):
    path = write_statements(tmp_path / "data")
    table = pd.read_csv(path)
    table["frame"] = [row // 2 % 2 for row in range(len(table))]
    table.to_csv(path, index=False)
    other = write_statements(tmp_path / "other", rng=np.random.default_rng(1))
    arguments = ["--model", str(series_directory), "--data", str(path), "--seeds", "1", "--ladder", str(other)]
    assert run_command(main, [*arguments, "--register", "none"]) == 0
    run = mlflow.search_runs(
        search_all_experiments=True, filter_string="tags.`trusttrace.entry_point` = 'probe'", output_format="list"
    )[0]
    found = pd.read_csv(mlflow.MlflowClient().download_artifacts(run.info.run_id, "ladder.csv")).set_index("rung")
    assert found.loc["reworded frames", "n"] == len(table)
    assert found.loc["another source", "n"] > 40
    assert found.loc["another source", "detail"] == "file:toxicity.csv"
    assert found["low"].notna().tolist() == [True, False, True, True]  # every statement holds a word that tells
    assert list((cache / "rungs").glob("*.safetensors"))
