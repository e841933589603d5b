"""Quality reports in MLflow: one table and one page for all dimensions of a run."""

from collections.abc import Sequence

import mlflow

from pipelines.statements.inspection import quality_table, render
from pipelines.statements.quality import QualityReport
from pipelines.tracking.artifacts import log_tables


def log_quality(reports: Sequence[QualityReport]) -> None:
    """``quality.csv`` with a row per measure, and ``quality.md`` to be read."""
    log_tables({"quality.csv": quality_table(reports)})
    mlflow.log_text("\n\n".join(render(report) for report in reports), "quality.md")
