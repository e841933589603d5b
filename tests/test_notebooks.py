"""Every notebook runs from its first cell to its last, on a tiny series; its cells alternate and carry no outputs."""

import ast
import json
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.small_statements import write_statements

FIGURES = {
    "calling_the_service": 0,
    "making_and_judging_a_vector": 1,
    "reading_the_information_plane": 1,
    "tracing_a_series": 2,
}
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def cells(path):
    return json.loads(path.read_text())["cells"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_text_and_code_alternate_and_no_output_is_kept(path):
    assert [cell["cell_type"] for cell in cells(path)] == ["markdown", "code"] * (len(cells(path)) // 2)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(path)[1::2])
    assert cells(path)[0]["source"][0].startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows(path, series_directory, tmp_path, tracking, cache, monkeypatch, capsys):
    """Figures are pictures and not names of objects; nothing is in the red that notebooks show stderr in."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setenv("NOTEBOOK_MODEL", str(series_directory))
    monkeypatch.setenv("NOTEBOOK_DATA", f"toxicity={write_statements(tmp_path, openings=60)}")
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr("pipelines.calibrate.splits.prose_for", lambda *_: ("the city of Paris is in France",) * 120)
    monkeypatch.chdir(path.parent)
    scope = {}
    shown = [run("".join(cell["source"]), scope) for cell in cells(path)[1::2]]
    pictures = [output._repr_png_() for output in shown if isinstance(output, Figure)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert len(pictures) == FIGURES[path.stem]
    assert any(isinstance(output, pd.DataFrame) for output in shown)
    assert capsys.readouterr().err == ""


def run(source, scope):
    """Execute one cell as a notebook does: the value of a last expression is what is shown."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), scope) if last else None
