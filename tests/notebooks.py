"""Notebooks executed: by a kernel of their own, as a reader's Jupyter does it, or by IPython in a forked child."""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.forked import run_forked

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SECONDS = 900
"""For a cell: the first may train ``tiny``."""

Outputs = list[list[Mapping[str, Any]]]
"""Of each code cell, as notebooks hold them."""


def executed(path: Path, environment: Mapping[str, str], *, before: str = "") -> Outputs:
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


def executed_without_kernel(path: Path, environment: Mapping[str, str], *, before: str = "") -> Outputs:
    """The same without a kernel, and without importing again what this process has."""
    pytest.importorskip("IPython", reason="notebooks need IPython; run make test")
    cells = json.loads(path.read_text())["cells"]
    first, *others = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    with TemporaryDirectory() as scratch:
        outputs = Path(scratch) / "outputs.json"

        def run() -> None:
            os.environ.update(environment)
            os.chdir(path.parent)
            outputs.write_text(json.dumps(_outputs_of([first, before, *others])))

        ended = run_forked(run)
        assert ended.returncode == 0, ended.output
        return json.loads(outputs.read_text())


def _outputs_of(cells: Sequence[str]) -> Outputs:
    from IPython.core.displayhook import CapturingDisplayHook
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from pipelines.cli import progress

    progress.is_notebook = lambda: True
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    outputs: Outputs = []
    for cell in cells:
        shell.display_pub = CapturingDisplayPublisher()
        shell.display_trap.hook = CapturingDisplayHook(shell=shell, outputs=shell.display_pub.outputs)
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            result = shell.run_cell(cell)
        result.raise_error()
        streams = {"stdout": out.getvalue(), "stderr": err.getvalue()}
        printed = [{"name": name, "text": text} for name, text in streams.items() if text]
        outputs.append([*printed, *({"data": _encoded(shown["data"])} for shown in shell.display_pub.outputs)])
    return outputs


def _encoded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Pictures as text, as a kernel sends them."""
    return {kind: b64encode(value).decode() if isinstance(value, bytes) else value for kind, value in data.items()}


def pictures(outputs: Outputs) -> list[bytes]:
    """PNG, in the order shown."""
    shown = [output.get("data", {}).get("image/png") for cell in outputs for output in cell]
    return [b64decode(picture) for picture in shown if picture]
