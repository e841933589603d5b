"""Every notebook runs from its first cell to its last, on a tiny series; its cells alternate and carry no outputs."""

import json
import os

import pytest

from tests.notebooks import NOTEBOOKS, executed, executed_without_kernel, pictures
from tests.small_statements import write_statements

FIGURES = {
    "calling_the_service": 0,
    "making_and_judging_a_vector": 1,
    "reading_the_information_plane": 1,
    "tracing_a_series": 2,
}
SHORT_PROSE = """
import pipelines.calibrate.splits
pipelines.calibrate.splits.prose_for = lambda *_: ("the city of Paris is in France",) * 120
"""
"""So that calibration needs no package of texts."""
CHAMPION = """
from pipelines.calibrate.__main__ import main as calibrate
calibrate(["--model", MODEL, "--data", os.environ["NOTEBOOK_DATA"], "--dimensions", "toxicity", "--seeds", "1"])
"""
"""What a service of another model than the packaged one steers with."""


BY_A_KERNEL = "calling_the_service"
"""The notebook that is executed as a reader's Jupyter does it; ten seconds more than without."""


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows(path, series_directory, tmp_path, tracking, cache, monkeypatch):
    """Figures are pictures and not names of objects; nothing is in the red that notebooks show stderr in."""
    statements = f"toxicity={write_statements(tmp_path, openings=60)}"
    named = {"NOTEBOOK_MODEL": str(series_directory), "NOTEBOOK_DATA": statements, "NOTEBOOK_DIMENSION": "toxicity"}
    before = SHORT_PROSE + (CHAMPION if path.stem == "calling_the_service" else "")
    execute = executed if path.stem == BY_A_KERNEL else executed_without_kernel
    outputs = execute(path, {**os.environ, **named}, before=before)
    shown = pictures(outputs)
    assert len(shown) == FIGURES[path.stem]
    assert all(picture.startswith(b"\x89PNG") for picture in shown)
    every = [output for cell in outputs for output in cell]
    assert any("text/html" in output.get("data", {}) for output in every)  # a table
    assert [output["text"] for output in every if output.get("name") == "stderr"] == []
    unshown = [output["data"] for output in every if "<Figure size" in output.get("data", {}).get("text/plain", "")]
    assert all("image/png" in data for data in unshown)
