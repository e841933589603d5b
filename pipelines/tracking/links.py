"""Links to MLflow's pages: a run, the runs of all commands, a version."""

import os
from urllib.parse import quote

import mlflow

from registry.errors import redacted
from registry.records import EXPERIMENT, RegisteredVector

UI_ADDRESS = "http://127.0.0.1:5000"
"""Where `make ui` answers."""
TRAINING = "workflowType=machine_learning"
"""Without it MLflow opens its pages for traces and evaluations, which show neither runs nor descriptions."""
PARENTS = "tags.`trusttrace.entry_point` != ''"
"""The filter that shows the run of each command and hides the runs of its checkpoints."""


def run_path(experiment_id: str, run_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"


def runs_path(experiment_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs?{TRAINING}&searchFilter={quote(PARENTS)}"


def version_path(vector: RegisteredVector) -> str:
    return f"#/models/{vector.name}/versions/{vector.version}"


def address() -> str:
    """Where people see MLflow: what was set, the tracking server without its password, or where `make ui` answers.

    Within Compose's network the tracking server has a name that nobody's browser knows.
    """
    if shown := os.environ.get("TRUSTTRACE_MLFLOW_UI", "").strip():
        return shown.rstrip("/")
    return UI_ADDRESS if needs_ui() else redacted(str(mlflow.get_tracking_uri()).rstrip("/"))


def page(path: str) -> str:
    return f"{address()}/{path}"


def needs_ui() -> bool:
    """Whether the pages open only while `make ui` runs."""
    return not str(mlflow.get_tracking_uri()).startswith(("http://", "https://"))


def open_ui() -> None:
    """Say where the runs are and, for a database, become the server that shows it: what `make ui` does.

    `mlflow ui` itself reads no ``MLFLOW_TRACKING_URI``.
    """
    print_runs_link()
    if needs_ui():
        stores = ("--backend-store-uri", mlflow.get_tracking_uri(), "--registry-store-uri", mlflow.get_registry_uri())
        os.execvp("mlflow", ("mlflow", "ui", *stores))


def print_runs_link() -> None:
    """Say where the runs are shown."""
    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    where = page(runs_path(experiment.experiment_id)) if experiment else f"{address()} (no runs yet: make demo)"
    print(f"The runs of all commands: {where}", flush=True)  # noqa: T201
