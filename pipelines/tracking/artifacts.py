"""Artifacts in MLflow: tables and figures of the active run."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pandas as pd

from pipelines.figures.style import Figure


def log_tables(tables: Mapping[str, pd.DataFrame]) -> None:
    """Each table as a CSV file, which the MLflow UI shows as one."""
    with tempfile.TemporaryDirectory() as directory:
        for name, table in tables.items():
            table.to_csv(Path(directory) / name, index=False)
        mlflow.log_artifacts(directory)


def log_figures(figures: Mapping[str, Figure]) -> None:
    for name, figure in figures.items():
        mlflow.log_figure(figure, f"figures/{name}.png")
