"""Artifacts in MLflow: tables and figures of the active run."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from PIL import Image

from pipelines.cli.options import Look
from pipelines.figures.paper import save_for_paper
from pipelines.figures.style import Figure
from pipelines.figures.text_tables import Row, latex_table, markdown_table

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

PREVIEWS = "description"
"""The folder of pictures that descriptions show."""
WIDEST_PREVIEW = 640
"""Pixels. MLflow shows a description's pictures as wide as they are, and a wider one pushes the page out of sight."""


def log_tables(tables: Mapping[str, pd.DataFrame]) -> None:
    """Each table as a CSV file, which the MLflow UI shows as one."""
    with tempfile.TemporaryDirectory() as directory:
        for name, table in tables.items():
            table.to_csv(Path(directory) / name, index=False)
        mlflow.log_artifacts(directory)


def log_figures(figures: Mapping[str, Figure], look: Look = "screen") -> None:
    """Each figure as PNG, which MLflow and the report show, and as SVG; for ``paper`` in a column's size too."""
    with tempfile.TemporaryDirectory() as directory:
        for name, figure in figures.items():
            for kind in ("png", "svg"):
                figure.savefig(Path(directory) / f"{name}.{kind}")
        if look == "paper":
            (Path(directory) / "paper").mkdir()
            for name, figure in figures.items():
                save_for_paper(figure, Path(directory) / "paper", name)
        mlflow.log_artifacts(directory, "figures")


def log_preview(run_id: str, figure: str) -> None:
    """A logged figure once more, no wider than a description has room for."""
    client = MlflowClient()
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / f"{figure}.png"
        with Image.open(client.download_artifacts(run_id, f"figures/{figure}.png", scratch)) as logged:
            picture = logged.convert("RGB")
        picture.thumbnail((WIDEST_PREVIEW, 4 * WIDEST_PREVIEW))
        picture.save(small, optimize=True)
        client.log_artifact(run_id, str(small), PREVIEWS)


def log_text_table(name: str, header: Row, rows: Sequence[Row]) -> None:
    """A table as Markdown and as LaTeX."""
    mlflow.log_text(markdown_table(header, rows), f"{name}.md")
    mlflow.log_text(latex_table(header, rows), f"{name}.tex")


def logged_tables(run_id: str) -> dict[str, pd.DataFrame]:
    """The tables of a run, by name of file."""
    client = MlflowClient()
    names = [artifact.path for artifact in client.list_artifacts(run_id) if artifact.path.endswith(".csv")]
    with tempfile.TemporaryDirectory() as scratch:
        paths = {name: client.download_artifacts(run_id, name, scratch) for name in names}
        # A revision such as 0512 is a name.
        return {name: pd.read_csv(path, dtype={"revision": str, "twin_of": str}) for name, path in paths.items()}
