"""The inspection of statements, from a user's options to a quality report for each dimension."""

from pipelines.cli.pasting import mlflow_run
from pipelines.data.options import DataOptions
from pipelines.experiment import require_sources
from pipelines.statements.inspection import inspect_statements, refuse, render
from pipelines.statements.sources import load_statements
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.quality import log_quality
from pipelines.tracking.runs import entry_point_run
from pipelines.tracking.units import log_statements


def run_inspection(options: DataOptions) -> None:
    """Print and log the reports. Raises ``InvalidInput`` for statements that a probe would refuse."""
    data, limit = options.statements.data, options.statements.limit
    with entry_point_run("data", options.params()) as run:
        require_sources(options.statements)
        reports = []
        for dimension in options.statements.chosen:
            reports += inspect_statements((dimension,), data, limit=limit, seed=options.seed)
            print(render(reports[-1]), end="\n\n")  # noqa: T201
        log_quality(reports)
        refuse(reports)
        log_statements(
            [
                load_statements(dimension, data, limit=limit, seed=options.seed)
                for dimension in options.statements.chosen
            ]
        )
        names = ", ".join(dimension.name for dimension in options.statements.chosen)
        conclude(
            run,
            Conclusion(
                verdict=f"The statements of {names} can be probed; quality.md says what they give away.",
                next=mlflow_run("probe", options.statements),
            ),
        )
