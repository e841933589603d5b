"""Artifacts in MLflow: tables and figures of the active run."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient

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


def log_figures(figures: Mapping[str, Figure], look: Look = "screen", *, preview: str = "") -> None:
    """Each figure as PNG, which MLflow and the report show, and as SVG; for ``paper`` in a column's size too.

    ``preview`` names the one that the run's description shows, which is drawn no wider than there is room.
    """
    with tempfile.TemporaryDirectory() as directory:
        shown = Path(directory) / "figures"
        shown.mkdir()
        for name, figure in figures.items():
            for kind in ("png", "svg"):
                figure.savefig(shown / f"{name}.{kind}")
        if preview:
            (Path(directory) / PREVIEWS).mkdir()
            figures[preview].save_small(Path(directory) / PREVIEWS / f"{preview}.png", WIDEST_PREVIEW)
        if look == "paper":  # which changes a figure
            (shown / "paper").mkdir()
            for name, figure in figures.items():
                save_for_paper(figure, shown / "paper", name)
        mlflow.log_artifacts(directory)


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
