"""A command's last words: they lead to its own run, and describe it."""

import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mlflow.tracking import fluent
from PIL import Image

from pipelines.figures.style import Figure
from pipelines.tracking import links
from pipelines.tracking.artifacts import log_figures
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.links import page, print_runs_link, run_path
from pipelines.tracking.runs import entry_point_run
from tests.forked import run_forked
from tests.pipelines.described import described_picture

CONCLUSION = Conclusion(
    verdict="1 of 1 dimension can be read.",
    header=("dimension", "accuracy"),
    rows=(("privacy", "0.8 | 0.9"),),
    next="make serve",
)


def concluded(conclusion=CONCLUSION):
    with entry_point_run("probe tiny", {"model": "tiny"}) as run:
        conclude(run, conclusion)
    return mlflow.MlflowClient().get_run(run.info.run_id)


def test_a_run_is_named_by_its_models_last_part(tracking, tmp_path):
    (tmp_path / "my-checkpoints").mkdir()
    for given, shown in ((str(tmp_path / "my-checkpoints"), "my-checkpoints"), ("org/model", "org/model")):
        with entry_point_run(f"probe {given}", {"model": given}) as run:
            pass
        told = mlflow.get_run(run.info.run_id)
        assert (told.info.run_name, told.data.params["model"]) == (f"probe {shown}", given)


def test_a_run_is_described_by_its_verdict_and_table(tracking):
    description = concluded().data.tags["mlflow.note.content"]
    assert description.startswith("**1 of 1 dimension can be read.**")
    assert "| privacy | 0.8 / 0.9 |" in description
    assert "Next: `make serve`" in description


@pytest.mark.draws
@pytest.mark.parametrize("inches", [2, 11])
def test_a_description_shows_a_figure_no_wider_than_its_page(tracking, inches):
    """At 200 dots per inch a panel is 2,200 pixels wide, and MLflow widens the page for it, tables and all."""
    with entry_point_run("probe tiny", {"model": "tiny"}) as run:
        log_figures({"other": Figure(), "curve": Figure(figsize=(inches, 2))}, preview="curve")
        conclude(run, CONCLUSION)
    run_id = run.info.run_id
    logged = mlflow.MlflowClient().download_artifacts(run_id, "figures/curve.png")
    for path, width in ((described_picture(run_id), min(200 * inches, 640)), (logged, 200 * inches)):
        with Image.open(path) as picture:
            assert picture.width == width


@pytest.mark.draws
def test_a_preview_has_the_title_that_paper_figures_lack(tracking):
    def titled():
        figure = Figure(figsize=(4, 2))
        figure.subplots().set_title("a title")
        return figure

    with entry_point_run("probe tiny", {"model": "tiny"}) as run:
        log_figures({"curve": titled()}, "paper", preview="curve")
        conclude(run, CONCLUSION)
    expected = io.BytesIO()
    titled().savefig(expected)
    with Image.open(described_picture(run.info.run_id)) as shown, Image.open(expected) as whole:
        whole.thumbnail((640, 2560))
        assert shown.tobytes() == whole.convert("RGB").tobytes()


@pytest.mark.draws
def test_a_preview_is_drawn_without_a_canvas_of_full_size(tracking, monkeypatch):
    drawn, draw = [], FigureCanvasAgg.draw
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: drawn.append(canvas.get_width_height()) or draw(canvas))
    monkeypatch.setattr(mlflow.MlflowClient, "download_artifacts", None)
    with entry_point_run("probe tiny", {"model": "tiny"}) as run:
        log_figures({"curve": Figure(figsize=(11, 2))}, preview="curve")
        conclude(run, CONCLUSION)
    assert drawn == [(2200, 400), (1280, 232)]


def test_a_long_table_is_cut_and_its_rest_counted(tracking):
    rows = tuple((f"dimension {number}", "0.812 [0.700, 0.900]") for number in range(400))
    description = concluded(replace(CONCLUSION, rows=rows)).data.tags["mlflow.note.content"]
    assert len(description) <= 8000
    shown = description.count("| 0.812 ")
    assert f"… and {400 - shown} rows more" in description
    assert shown > 100
    assert description.endswith("Next: `make serve`")


def test_links_lead_to_the_address_that_people_know(tracking, monkeypatch):
    monkeypatch.setenv("TRUSTTRACE_MLFLOW_UI", "https://mlflow.example/")
    assert page(run_path("1", "r")).startswith("https://mlflow.example/#/experiments/1/runs/r")


def test_the_ending_links_to_this_run(tracking, capsys):
    run = concluded()
    printed = capsys.readouterr().out
    assert (
        f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?workflowType=" in printed
    )
    assert "runs?workflowType=machine_learning&searchFilter=" in printed
    assert printed.rstrip().endswith("next: make serve")


@pytest.mark.parametrize(("level", "activated"), [(None, ""), ("1", ". .venv/bin/activate && ")])
def test_the_next_command_works_after_make(tracking, capsys, monkeypatch, level, activated):
    monkeypatch.delenv("MAKELEVEL", raising=False)
    if level:
        monkeypatch.setenv("MAKELEVEL", level)
    monkeypatch.setattr(sys, "prefix", os.path.join(os.getcwd(), ".venv"))
    concluded(replace(CONCLUSION, next="mlflow run . -e calibrate --env-manager local"))
    assert capsys.readouterr().out.endswith(f"next: {activated}mlflow run . -e calibrate --env-manager local\n")
    concluded()
    assert capsys.readouterr().out.endswith("next: make serve\n")


def test_a_stage_names_no_next_command(tracking, capsys, monkeypatch):
    """`main` goes on by itself."""
    client, chain = mlflow.MlflowClient(), concluded()
    capsys.readouterr()
    tags = {"mlflow.parentRunId": chain.info.run_id}
    monkeypatch.setenv("MLFLOW_RUN_ID", client.create_run(chain.info.experiment_id, tags=tags).info.run_id)
    stage = concluded()
    assert stage.data.tags["mlflow.parentRunId"] == chain.info.run_id
    assert "next:" not in capsys.readouterr().out
    assert stage.data.tags["mlflow.note.content"].endswith("Next: `make serve`")


def test_links_to_a_server_hold_no_password(monkeypatch):
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://anna:secret@mlflow.example/")
    assert page(run_path("1", "a")).endswith("@mlflow.example/#/experiments/1/runs/a?workflowType=machine_learning")
    assert "secret" not in page(run_path("1", "a"))


def test_make_ui_says_where_the_runs_are(tracking, capsys):
    run = concluded()
    capsys.readouterr()
    print_runs_link()
    assert f"/#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning" in capsys.readouterr().out


@pytest.mark.parametrize("uri", ["sqlite:///./elsewhere.db", "http://mlflow.example"])
def test_make_ui_shows_the_database_that_commands_log_to(monkeypatch, uri):
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(links, "print_runs_link", lambda: None)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    monkeypatch.setattr(mlflow, "get_registry_uri", lambda: "sqlite:///./vectors.db")
    monkeypatch.setattr(os, "execvp", lambda _, command: started.append(command))
    links.open_ui()
    stores = ("--backend-store-uri", uri, "--registry-store-uri", "sqlite:///./vectors.db")
    assert started == ([("mlflow", "ui", *stores)] if uri.startswith("sqlite") else [])


def test_the_experiment_explains_how_to_hide_child_runs(tracking):
    concluded()
    experiment = mlflow.get_experiment_by_name("trusttrace")
    banner = experiment.tags["mlflow.note.content"]
    condition = banner.split("`` ")[1].split(" ``")[0]
    assert len(mlflow.search_runs(experiment_names=["trusttrace"], filter_string=condition)) == 1
    mlflow.set_experiment_tag("mlflow.note.content", "ours")
    concluded()
    assert mlflow.get_experiment_by_name("trusttrace").tags["mlflow.note.content"] == "ours"


def opened_by_mlflow_run(monkeypatch, experiment_id):
    """The run and the environment that `mlflow run` leaves to an entry point."""
    client = mlflow.MlflowClient()
    run = client.create_run(experiment_id, tags={"mlflow.project.entryPoint": "probe", "mlflow.runName": "odd-owl-1"})
    client.log_param(run.info.run_id, "seeds", "3")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)  # a process of its own
    return run.info.run_id


def test_a_run_opened_in_default_moves_to_trusttrace(tracking, monkeypatch):
    opened = opened_by_mlflow_run(monkeypatch, "0")
    run = concluded()
    assert mlflow.get_experiment(run.info.experiment_id).name == "trusttrace"
    assert run.data.params == {"seeds": "3", "model": "tiny"}
    assert run.data.tags["mlflow.project.entryPoint"] == "probe"
    assert run.data.tags["mlflow.runName"] == "probe tiny"
    left = mlflow.get_run(opened)
    assert left.info.status == "RUNNING"  # `mlflow run` ends it
    assert f"/runs/{run.info.run_id}?workflowType=" in left.data.tags["mlflow.note.content"]


def run_as_a_project() -> None:
    """`mlflow run` as a new process knows it: the experiment of this one is not chosen."""
    from mlflow.cli import cli

    fluent._active_experiment_id = None
    for name in [name for name in os.environ if name.startswith("MLFLOW_EXPERIMENT")]:
        del os.environ[name]
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
    cli(["run", ".", "--env-manager", "local"], standalone_mode=False)


def test_mlflow_run_ends_well_and_clears_what_one_before_left(tracking, tmp_path, monkeypatch):
    """The real `mlflow run` of a command that logs as all of ours do, in a new Python."""
    before, client = opened_by_mlflow_run(monkeypatch, "0"), mlflow.MlflowClient()
    moved = concluded()
    client.set_terminated(before)
    (tmp_path / "MLproject").write_text(f"entry_points:\n  main:\n    command: {sys.executable} command.py\n")
    (tmp_path / "command.py").write_text(
        "from pipelines.tracking.runs import entry_point_run\nwith entry_point_run('probe tiny', {}):\n    pass\n"
    )
    ended = run_forked(run_as_a_project)
    assert ended.returncode == 0, ended.output
    (left,) = client.search_runs(["0"])
    assert left.info.status == "FINISHED" and left.info.run_id != before
    newer, older = client.search_runs([moved.info.experiment_id])
    assert (newer.info.run_id, older.info.run_id) == (left.data.tags["trusttrace.moved_to"], moved.info.run_id)
    assert newer.info.status == older.info.status == "FINISHED"


@pytest.mark.parametrize("named", [True, False])
def test_a_run_in_a_chosen_experiment_stays(tracking, monkeypatch, named):
    experiment_id = "0" if named else mlflow.create_experiment("mine")
    if named:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "Default")
    opened = opened_by_mlflow_run(monkeypatch, experiment_id)
    assert concluded().info.run_id == opened
