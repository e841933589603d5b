"""The chain as a user runs it: real processes, a real tracking store, and stages that are skipped with reason."""

import os
import sys

import mlflow
import pytest

from pipelines.cli.command import run_command
from pipelines.cli.parameters import with_values
from pipelines.main import workflow
from pipelines.main.__main__ import main
from pipelines.main.options import MainOptions
from pipelines.main.workflow import STAGES, arguments_for, chosen_stages, inputs_digest, stage_key
from pipelines.report.__main__ import main as report
from registry.errors import UnknownName
from tests.forked import run_forked
from tests.small_statements import write_statements


@pytest.fixture
def data(tmp_path):
    return write_statements(tmp_path)


def stage_runs(stage):
    query = f"tags.`trusttrace.entry_point` = '{stage}'"
    return mlflow.search_runs(search_all_experiments=True, filter_string=query, output_format="list")


def report_in_a_child(_stage, arguments, run_id):
    """As the stage's own process, which imports for four seconds."""

    def child():
        os.environ["MLFLOW_RUN_ID"] = run_id
        os._exit(run_command(report, arguments))

    ended = run_forked(child)
    print(ended.output, file=sys.stderr)
    return ended.returncode


def test_stages_run_below_the_chain_once_and_failures_again(
    series_directory, data, tracking, cache, monkeypatch, capfd
):
    given = ["--model", str(series_directory), "--data", f"toxicity={data}", "--dimensions", "toxicity"]
    given += ["--stages", "report"]
    with monkeypatch.context() as patch:
        patch.setattr(workflow, "_run_process", report_in_a_child)
        assert run_command(main, given) == 2  # there is nothing to report yet
    said = capfd.readouterr().err
    assert "MLflow has no finished run of" in said
    assert "the stage report ended with exit code 2, for the reason above" in said
    assert {run.info.status for run in [*stage_runs("main"), *stage_runs("report")]} == {"FAILED"}
    with mlflow.start_run(tags={"trusttrace.entry_point": "probe"}):
        mlflow.log_param("model", str(series_directory))
    assert run_command(main, given) == 0
    (report, _), (chain, _) = stage_runs("report"), stage_runs("main")
    assert report.info.status == chain.info.status == "FINISHED"
    assert report.data.tags["mlflow.parentRunId"] == chain.info.run_id
    assert report.data.params == {"model": str(series_directory), "output": "none"}
    capfd.readouterr()
    assert run_command(main, given) == 0
    printed = capfd.readouterr().out
    assert f"report: unchanged since run {report.info.run_id}, skipped" in printed
    assert "next: " not in printed
    assert len(stage_runs("report")) == 2


def test_champions_that_calibration_left_do_not_run_it_again(series_directory, data, tracking, monkeypatch, capfd):
    champions = ["v/1"]

    def calibrate(_stage, _arguments, run_id):
        champions[:] = ["v/2"]
        mlflow.MlflowClient().set_terminated(run_id)
        return 0

    monkeypatch.setattr(workflow, "_run_process", calibrate)
    monkeypatch.setattr(workflow, "champion_references", lambda _model: champions)
    given = with_values(
        MainOptions(),
        {"model": str(series_directory), "data": f"toxicity={data}", "dimensions": "toxicity", "stages": "calibrate"},
    )
    workflow.run_chain(given)
    printed = capfd.readouterr().out
    assert "calibrate: --model" in printed and "next: mlflow run . -e report --env-manager local" in printed
    workflow.run_chain(given)
    assert "calibrate: unchanged" in capfd.readouterr().out
    champions[:] = ["v/3"]  # as promoted by hand
    workflow.run_chain(given)
    assert "calibrate: --model" in capfd.readouterr().out


def test_a_stage_is_given_its_own_parameters():
    given = with_values(MainOptions(), {"model": "smollm2", "limit": "50", "data": "hub"})
    assert arguments_for("pretrain", given) == []
    assert arguments_for("pretrain", with_values(given, {"model": "tiny:3"})) == ["--seed", "3"]
    evaluate = arguments_for("evaluate", given)
    assert evaluate[evaluate.index("--limit") + 1] == "50"
    assert "--checkpoints" not in evaluate
    assert arguments_for("report", given) == ["--model", "smollm2", "--output", "none"]


def test_stages_run_in_their_order_however_named():
    assert chosen_stages("all", "tiny") == tuple(STAGES)
    assert chosen_stages("all", "tiny:1") == tuple(STAGES)
    assert "pretrain" not in chosen_stages("all", "smollm2")
    assert chosen_stages("report, probe", "smollm2") == ("probe", "report")
    with pytest.raises(UnknownName, match="unknown stage 'prob'; did you mean 'probe'"):
        chosen_stages("prob", "tiny")


def test_every_input_changes_the_key(series_directory, data):
    texts = {"model": str(series_directory), "data": f"toxicity={data}", "dimensions": "toxicity"}
    given = with_values(MainOptions(), texts)
    known = inputs_digest(given)
    assert inputs_digest(given) == known
    assert inputs_digest(with_values(given, {"model": str(series_directory / "step_000010")})) != known
    assert inputs_digest(with_values(given, {"limit": "20"})) != known
    data.write_text(data.read_text().replace("kind", "good"))
    assert inputs_digest(given) != known
    keys = {
        stage_key("evaluate", arguments, before, champions)
        for arguments in (["--limit", "1"], ["--limit", "2"])
        for before in ("a", "b")
        for champions in (["v/1"], ["v/2"])
    }
    assert len(keys) == 8
    assert stage_key("probe", [], "a", ["v/1"]) == stage_key("probe", [], "a", ["v/2"])
