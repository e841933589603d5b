"""The series audit: twins, gaps and what was left out, before anything is measured."""

import os
import shutil
import time

import pytest

from registry.errors import InvalidInput
from serving.model.audit import audit_rows, audit_series, render_audit
from serving.model.sources import find_series
from tests.hub_server import REPO


@pytest.fixture
def twins(series_directory, tmp_path):
    copy = shutil.copytree(series_directory, tmp_path / "twins")
    shutil.copytree(copy / "step_000000", copy / "step_000001")
    return copy


def repeated(audit):
    """The checkpoints with the weights of an earlier one."""
    return [audited.checkpoint for audited in audit.checkpoints if audited.twin_of is not None]


def test_steps_of_equal_weights_are_named_on_disk(twins):
    series = find_series(str(twins))
    audit = audit_series(series, series.select("all"))
    assert [checkpoint.step for checkpoint in audit.usable] == [0, 1, 10, 100]
    assert [checkpoint.step for checkpoint in repeated(audit)] == [1]
    assert "step 0 and step 1 have equal weights" in render_audit(audit)
    distances = [row["embedding_distance"] for row in audit_rows(audit)]
    assert distances[0] is None
    assert distances[1] == 0
    assert distances[2] > 0.5


def test_names_that_are_numbers_alone_are_said_to_be_steps(series_directory, tmp_path):
    for seed, step in (("42", "step_000010"), ("7", "step_000100")):
        shutil.copytree(series_directory / step, tmp_path / "runs" / seed)
    series = find_series(str(tmp_path / "runs"))
    rendered = render_audit(audit_series(series, series.select("all")))
    assert "- names that are numbers alone are read as steps, not as seeds or epochs: 7, 42" in rendered
    series = find_series(str(series_directory))
    assert "numbers alone" not in render_audit(audit_series(series, series.select("all")))


def test_weights_that_come_back_are_disputed(series_directory, tmp_path):
    copy = shutil.copytree(series_directory, tmp_path / "disputed")
    shutil.copytree(copy / "step_000100", copy / "step_000005")
    series = find_series(str(copy))
    audit = audit_series(series, series.select("all"))
    assert [checkpoint.step for checkpoint in audit.usable] == [0, 5, 10, 100]
    assert [checkpoint.step for checkpoint in audit.traceable] == [0, 10]
    assert [row["disputed"] for row in audit_rows(audit)] == [False, True, False, True]
    assert "step 5 and step 100 have equal weights, with others between" in render_audit(audit)
    shutil.copytree(copy / "step_000010", copy / "step_000200")
    shutil.rmtree(copy / "step_000000")
    series = find_series(str(copy))
    with pytest.raises(InvalidInput, match="no step of disputed is certain"):
        _ = audit_series(series, series.select("all")).traceable


def test_equal_weights_are_found_before_a_byte_is_fetched(hub):
    series = find_series(REPO)
    audit = audit_series(series, series.select("all,main"))
    assert [checkpoint.revision for checkpoint in repeated(audit)] == ["step1", "main"]
    assert hub.counted("resolve") == 0


def test_what_cannot_be_measured_is_left_out_by_name(hub):
    (hub.repositories[REPO]["step10"] / "model.safetensors").unlink()
    (hub.repositories[REPO]["step100"] / "tokenizer.json").unlink()
    series = find_series(REPO)
    audit = audit_series(series, series.select("0,10,100"))
    assert [checkpoint.step for checkpoint in audit.usable] == [0, 100]
    rendered = render_audit(audit)
    assert "left out: step10: it holds no weights" in rendered
    assert "without a tokenizer: 1 checkpoint; that of main is used" in rendered
    assert "left out: main: not chosen" in rendered
    assert "1 of 4 checkpoints: not chosen" in rendered
    assert {row["revision"] for row in audit_rows(audit)} >= {"step0", "step10", "step100", "main"}
    with pytest.raises(InvalidInput, match="none of the checkpoints chosen of .*step10: it holds no weights"):
        audit_series(series, series.select("10"))


def test_60_listed_revisions_are_audited_in_four_seconds(hub, tmp_path):
    source = hub.repositories[REPO]["step10"]
    hub.repositories["org/long"] = {
        f"step{step}": shutil.copytree(source, tmp_path / "long" / f"step{step}", copy_function=os.link)
        for step in range(60)
    }
    series = find_series("org/long")
    audit_series(series, series.select("all"))
    listed = hub.counted("/api/models/")
    began = time.perf_counter()
    audit = audit_series(series, series.select("all"))
    assert time.perf_counter() - began < 4
    assert len(repeated(audit)) == 59
    assert hub.counted("/api/models/") == listed == 61


def test_one_checkpoint_is_chosen_by_its_own_parameter(hub):
    series = find_series(REPO)
    audit = audit_series(series, series.select("last"), parameter="checkpoint")
    assert "3 of 4 checkpoints: not chosen; `checkpoint` chooses one" in render_audit(audit)
    audit = audit_series(series, series.select("last"), parameter="trace")
    assert "3 of 4 checkpoints: not chosen; trace=all measures them" in render_audit(audit)


def test_a_whole_line_left_out_is_not_all_checkpoints(hub):
    series = find_series(REPO)
    audit = audit_series(series, series.select("main"), parameter="checkpoint")
    assert "left out: 4 checkpoints: not chosen; `checkpoint` chooses one" in render_audit(audit)
