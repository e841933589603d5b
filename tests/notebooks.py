"""Notebooks executed by a kernel of their own, as a reader's Jupyter does it."""

from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SECONDS = 900
"""For a cell: the first may train ``tiny``."""


def executed(path: Path, environment: Mapping[str, str], *, before: str = "") -> list[list[Mapping[str, Any]]]:
    """The outputs of each code cell; ``before`` is run after the first. A cell that fails raises nbclient's error.

    The kernel starts in the directory of the notebook, with ``environment`` and nothing else of this process.
    """
    nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient; run make test")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(2, nbformat.v4.new_code_cell(before))
    resources = {"metadata": {"path": str(path.parent)}}
    client = nbclient.NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources)
    client.execute(env=dict(environment))
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def pictures(outputs: list[list[Mapping[str, Any]]]) -> list[bytes]:
    """PNG, in the order shown."""
    shown = [output.get("data", {}).get("image/png") for cell in outputs for output in cell]
    return [b64decode(picture) for picture in shown if picture]
