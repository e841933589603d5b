"""The information job as a user runs it, on a tiny series and a real tracking store."""

import json
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from pipelines.cli.command import run_command
from pipelines.information import experiment
from pipelines.information.__main__ import main
from pipelines.information.calibration import FLIPPED_SHARES
from registry.checkpoints import Checkpoint
from tests.pipelines.described import described_picture
from tests.pipelines.pasted import next_parameters
from tests.small_statements import write_two_dimensions

TABLES = {"information.csv", "bandwidths.csv", "phases.csv", "dynamics.csv", "transfer.csv"}


@pytest.fixture
def data(tmp_path):
    return write_two_dimensions(tmp_path / "data", openings=30)


@pytest.fixture
def arguments(series_directory, data, tracking, cache):
    return ["--model", str(series_directory), "--data", str(data), "--dimensions", "toxicity"]


def runs(condition=""):
    (experiment,) = [experiment for experiment in mlflow.search_experiments() if experiment.name == "trusttrace"]
    return mlflow.MlflowClient().search_runs([experiment.experiment_id], condition)


def parents():
    return [run for run in runs() if "mlflow.parentRunId" not in run.data.tags]


def files_of(run):
    return mlflow.MlflowClient().list_artifacts(run.info.run_id)


def table(run, name="information.csv"):
    return pd.read_csv(mlflow.MlflowClient().download_artifacts(run.info.run_id, name))


@pytest.mark.draws
def test_a_sweep_leaves_runs_curves_tables_and_figures(arguments, capsys):
    assert run_command(main, [*arguments, "--dimensions", "toxicity,privacy", "--warmup-steps", "50"]) == 0
    (parent,) = parents()
    assert parent.info.status == "FINISHED"
    children = runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 4 * 2
    client = mlflow.MlflowClient()
    for name in ("nhsic_xt", "nhsic_xt_fixed", "nhsic_ty", "v_information_bits", "effective_rank"):
        curve = client.get_metric_history(parent.info.run_id, f"privacy/{name}")
        assert sorted(point.step for point in curve) == [0, 10, 100]
    profile = client.get_metric_history(children[0].info.run_id, "layer/nhsic_ty")
    assert sorted(point.step for point in profile) == [0, 1, 2]
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= TABLES | {"figures"}
    figures = {Path(file.path).stem for file in client.list_artifacts(parent.info.run_id, "figures")}
    kinds = ("information_plane", "curves", "heat_maps", "transfer")
    assert figures == {"information_calibration"} | {
        f"{name}_{kind}" for name in ("toxicity", "privacy") for kind in kinds
    }
    assert described_picture(parent.info.run_id).name == "toxicity_curves.png"
    calibration = table(parent, "information_calibration.csv")
    assert calibration["flipped"].tolist() == list(FLIPPED_SHARES) * 2
    assert set(calibration["step"]) == {100}
    assert len(table(parent)) == 4 * 2 * 3 * 2
    printed = capsys.readouterr().out
    assert "phases are not looked for in 3 checkpoints of mini" in printed
    assert "Calibration: bits at step 100, layer 1, where a share of the labels is flipped" in printed
    assert next_parameters(printed, "probe").keys() == {"model", "data", "dimensions"}
    assert "bits that a linear probe tells of the label" in children[0].data.tags["mlflow.note.content"]


def test_equal_weights_are_hollow_in_the_figures(arguments, series_directory, tmp_path, monkeypatch):
    series = shutil.copytree(series_directory, tmp_path / "twins" / "mini")
    shutil.copytree(series / "step_000000", series / "step_000001")
    figures = {}
    monkeypatch.setattr(experiment, "log_figures", lambda drawn, *_, **__: figures.update(drawn))
    assert run_command(main, [*arguments, "--model", str(series), "--calibrate", "false"]) == 0
    for axes in figures["toxicity_curves"].axes:
        lines = {line.get_label(): line for line in axes.get_lines()}
        hollow = lines["hollow: weights of an earlier checkpoint"]
        assert (list(hollow.get_xdata()), hollow.get_fillstyle()) == ([1], "none")
    assert "hatched: weights of an earlier checkpoint" in figures["toxicity_heat_maps"].get_supxlabel()
    (points,) = figures["toxicity_information_plane"].axes[0].collections[:1]
    assert len(points.get_offsets()) == 3


def test_the_papers_estimator_runs_from_end_to_end(arguments):
    assert run_command(main, [*arguments, "--checkpoints", "last", "--estimator", "paper"]) == 0
    (parent,) = parents()
    found = table(parent)
    assert set(found["estimator"]) == {"paper"}
    assert (found["n"] == 48).all()  # the first 80 % of 60
    assert found["cka_xt"].isna().all()
    assert "information_calibration.csv" not in {file.path for file in files_of(parent)}


def test_a_single_checkpoint_is_measured_by_mean_and_exactly(arguments):
    given = [*arguments, "--checkpoints", "last", "--pooling", "mean", "--landmarks", "0", "--calibrate", "false"]
    assert run_command(main, given) == 0
    (parent,) = parents()
    found = table(parent)
    assert set(found["step"]) == {-1, 100}
    assert (found["landmarks"] == 60).all()
    assert (found["captured"] > 0.999).all()
    assert table(parent, "phases.csv").empty


def test_interrupted_it_resumes_to_the_same_table(arguments, tmp_path, monkeypatch, capsys):
    real, logged = experiment.InformationLog.add, []
    arguments = [*arguments, "--checkpoints", "0,100", "--calibrate", "false"]

    def interrupt_at_the_second(*given):
        logged.append(real(*given))
        if len(logged) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(experiment.InformationLog, "add", interrupt_at_the_second)
        assert run_command(main, arguments) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert run_command(main, arguments) == 0
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(tmp_path / "fresh"))
    assert run_command(main, arguments) == 0
    assert sorted(run.info.status for run in parents()) == ["FINISHED", "FINISHED", "KILLED"]
    whole, resumed = (table(run) for run in parents() if run.info.status == "FINISHED")
    pd.testing.assert_frame_equal(whole, resumed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--estimator", "mine"], "unknown estimator 'mine'; known: sound, paper"),
        (["--landmarks", "1"], "landmarks is 1; give 0 for all statements"),
        (["--warmup-steps", "soon"], "`warmup_steps` is 'soon'; give auto or a whole number"),
        (["--checkpoints", "init"], "selects no trained one"),
        (["--dimensions", "toxcity"], "did you mean 'toxicity'"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(arguments, changes, words, capsys):
    assert run_command(main, [*arguments, *changes]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_a_manifest_tells_the_warmup_of_its_series(tmp_path):
    here = Checkpoint("mini", str(tmp_path), "step_1", 1)
    assert experiment.known_warmup(here) is None
    (tmp_path / "series.json").write_text(json.dumps({"config": {"training": {"warmup_steps": 100}}}))
    assert experiment.known_warmup(here) == 100
    (tmp_path / "series.json").write_text("{}")
    assert experiment.known_warmup(here) is None
