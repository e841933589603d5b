"""Series audit in MLflow: one table and one page of the checkpoints of a run."""

import mlflow
import pandas as pd

from pipelines.tracking.artifacts import log_tables
from serving.model.audit import SeriesAudit, audit_rows, render_audit


def log_series(audit: SeriesAudit) -> None:
    """``series.csv`` with a row a checkpoint and a revision left out, and ``series.md`` to be read."""
    log_tables({"series.csv": pd.DataFrame(audit_rows(audit))})
    mlflow.log_text(render_audit(audit), "series.md")
