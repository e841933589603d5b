"""Every notebook runs from its first cell to its last, on a tiny series; its cells alternate and carry no outputs."""

import json
import os
import re
from ast import literal_eval

import pytest

from pipelines.calibrate.__main__ import main as calibrate
from tests.notebooks import NOTEBOOKS, executed_without_kernel, pictures
from tests.serving.conftest import COMMAND, Deployment
from tests.serving.listening import listening
from tests.small_statements import write_statements

FIGURES = {
    "calling_the_service": 0,
    "making_and_judging_a_vector": 1,
    "reading_the_information_plane": 1,
    "tracing_a_series": 2,
}
SHORT_PROSE = ("the city of Paris is in France",) * 120
PATCH_PROSE = f"""
import pipelines.calibrate.splits
pipelines.calibrate.splits.prose_for = lambda *_: {SHORT_PROSE!r}
"""
"""So that calibration needs no package of texts."""
CALLS_A_SERVICE = "calling_the_service"


def cells(path):
    return json.loads(path.read_text())["cells"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_text_and_code_alternate_and_no_output_is_kept(path):
    assert [cell["cell_type"] for cell in cells(path)] == ["markdown", "code"] * (len(cells(path)) // 2)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(path)[1::2])
    assert cells(path)[0]["source"][0].startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_mlflow_is_silent_before_it_is_imported(path):
    """On a machine without a database MLflow tells of its tables on stderr; the tests' database is made before."""
    first = "".join(cells(path)[1]["source"])
    silence = 'os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")'
    assert silence in first and "mlflow" not in first.partition(silence)[0]


@pytest.fixture
def environment(series_directory, tmp_path, tracking, cache):
    """What a notebook is told of the tiny series and its statements, in a store of its own."""
    statements = f"toxicity={write_statements(tmp_path, openings=60)}"
    named = {"NOTEBOOK_MODEL": str(series_directory), "NOTEBOOK_DATA": statements, "NOTEBOOK_DIMENSION": "toxicity"}
    return {**os.environ, **named}


@pytest.fixture
def champion(environment, monkeypatch):
    """What a service of another model than the packaged one steers with."""
    monkeypatch.setattr("pipelines.calibrate.splits.prose_for", lambda *_: SHORT_PROSE)
    given = ["--model", environment["NOTEBOOK_MODEL"], "--data", environment["NOTEBOOK_DATA"]]
    calibrate([*given, "--dimensions", "toxicity", "--seeds", "1"])


def require_shown(path, outputs):
    """Figures are pictures and not names of objects; nothing is in the red that notebooks show stderr in."""
    shown = pictures(outputs)
    assert len(shown) == FIGURES[path.stem]
    assert all(picture.startswith(b"\x89PNG") for picture in shown)
    every = [output for cell in outputs for output in cell]
    assert any("text/html" in output.get("data", {}) for output in every)  # a table
    assert [output["text"] for output in every if output.get("name") == "stderr"] == []
    unshown = [output["data"] for output in every if "<Figure size" in output.get("data", {}).get("text/plain", "")]
    assert all("image/png" in data for data in unshown)


def test_steps_are_written_as_figures_write_them():
    assert not [path.stem for path in NOTEBOOKS if "checkpoint.label" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if path.stem != CALLS_A_SERVICE], ids=lambda path: path.stem
)
def test_it_runs_and_shows(path, environment):
    outputs = executed_without_kernel(path, environment, before=PATCH_PROSE)
    require_shown(path, outputs)
    results = [
        output["data"]["text/plain"] for cell in outputs for output in cell if "text/plain" in output.get("data", {})
    ]
    if path.stem == "making_and_judging_a_vector":
        (judged,) = [result for result in results if result.startswith("('steer.")]
        low = literal_eval(judged)[2][0]
        (answers,) = [result for result in results if re.match(r"\{-?\d", result)]
        assert min(literal_eval(answers)) >= low


def test_the_one_that_calls_a_service_calls_one_that_runs(environment, champion, series_directory, tracking):
    (path,) = [path for path in NOTEBOOKS if path.stem == CALLS_A_SERVICE]
    with listening(Deployment(series_directory, tracking), poll=60) as url:
        outputs = executed_without_kernel(path, {**environment, "TRUSTTRACE_URL": url})
    require_shown(path, outputs)
    shown = "".join(output.get("data", {}).get("text/plain", "") for cell in outputs for output in cell)
    assert "'code_commit': '" in shown


def test_a_cell_starts_the_service_as_make_serve_does():
    """`make endurance` starts it so."""
    (path,) = [path for path in NOTEBOOKS if path.stem == CALLS_A_SERVICE]
    started = "".join(cells(path)[3]["source"])
    assert '[sys.executable, "-m", "bentoml", "serve", "serving.service:SteeringService"]' in started
    assert COMMAND[:2] == ("serve", "serving.service:SteeringService")
