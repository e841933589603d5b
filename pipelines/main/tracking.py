"""Stages in MLflow: a run for each below the chain's, found again by the digest of its inputs."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow import MlflowClient

from pipelines.tracking.champions import champion_versions
from pipelines.tracking.runs import Run

KEY = "trusttrace.stage_key"


def finished_stage(key: str) -> str | None:
    """The newest finished run of a stage with these inputs, if there is one."""
    runs = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"attributes.status = 'FINISHED' and tags.`{KEY}` = '{key}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
        output_format="list",
    )
    return str(runs[0].info.run_id) if runs else None


@contextmanager
def stage_run(stage: str, key: str, parent: Run) -> Iterator[str]:
    """The id of a new run below ``parent`` for a process that will open it; never left RUNNING."""
    client = MlflowClient()
    tags = {"mlflow.parentRunId": parent.info.run_id, KEY: key}
    run_id = client.create_run(parent.info.experiment_id, tags=tags, run_name=stage).info.run_id
    try:
        yield run_id
    finally:
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, "FAILED")


def name_inputs(run_id: str, key: str) -> None:
    """Let ``finished_stage`` find this run by ``key``."""
    MlflowClient().set_tag(run_id, KEY, key)


def champion_references(model: str) -> list[str]:
    """The champions and their calibrations, such as ``models:/steer.tiny.toxicity/3 calibrated by <run>``."""
    return [
        f"{version.uri} calibrated by {version.calibration.run_id if version.calibration else 'none'}"
        for version in champion_versions(model)
    ]
