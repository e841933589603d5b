"""Runs of MLflow that a report shows, and the page that is left there."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines.tracking.champions import champion_versions
from pipelines.tracking.conclusion import verdict_of
from registry.errors import InvalidInput
from registry.store import CHAMPION, RegisteredVector

PAGE = "report.html"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """One run, with its artifacts in memory."""

    run_id: str
    started: str
    """UTC, to the minute."""
    commit: str
    params: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]
    figures: Mapping[str, bytes]
    """PNG by name."""
    verdict: str = ""
    """The sentence that opens the run's description."""


@dataclass(frozen=True)
class ChampionCard:
    """The vector that a service steers a dimension with."""

    row: Mapping[str, object]


def newest_runs(model: str, entry_points: Sequence[str]) -> dict[str, ReportedRun]:
    """The newest finished run of each entry point that was given this ``model``; a pre-training has none."""
    if "'" in model or "\\" in model:
        raise InvalidInput(f"model {model!r} holds a quote or a backslash, which MLflow cannot search for")
    newest = {}
    for kind in entry_points:
        query = f"attributes.status = 'FINISHED' and tags.`trusttrace.entry_point` = '{kind}'"
        if kind != "pretrain":
            query += f" and params.model = '{model}'"
        elif model != "tiny":
            continue
        runs = mlflow.search_runs(
            search_all_experiments=True,
            filter_string=query,
            order_by=["attributes.start_time DESC"],
            max_results=1,
            output_format="list",
        )
        if runs:
            newest[kind] = _read(runs[0])
    return newest


def champions(model: str) -> tuple[ChampionCard, ...]:
    """The champions of ``model`` with their calibrations."""
    return tuple(_card(vector) for vector in champion_versions(model))


def _card(vector: RegisteredVector) -> ChampionCard:
    calibration = vector.calibration
    return ChampionCard(
        {
            "dimension": vector.dimension,
            "vector": vector.uri,
            "layer": vector.layer,
            "step": vector.checkpoint_step,
            "method": vector.tags.get("method", ""),
            "statements": vector.tags.get("statements_source", ""),
            "n_train": vector.tags.get("n_train", ""),
            "safe range": f"{calibration.low:g} to {calibration.high:g}" if calibration else "not calibrated",
            "recommended": f"{calibration.recommended:g}" if calibration else "",
            "why": vector.tags.get(f"{CHAMPION}_because", ""),
        }
    )


def log_page(content: str) -> str:
    """Log the page to the active run; returns its address there."""
    mlflow.log_text(content, PAGE)
    return str(mlflow.get_artifact_uri(PAGE))


def _read(run: Run) -> ReportedRun:
    client, run_id = MlflowClient(), run.info.run_id
    with tempfile.TemporaryDirectory() as scratch:
        names = [artifact.path for artifact in client.list_artifacts(run_id) if artifact.path.endswith(".csv")]
        figures_there = client.list_artifacts(run_id, "figures")
        names += [artifact.path for artifact in figures_there if artifact.path.endswith(".png")]
        paths = {name: Path(client.download_artifacts(run_id, name, scratch)) for name in names}
        tables = {name: pd.read_csv(path) for name, path in paths.items() if path.suffix == ".csv"}
        figures = {path.stem: path.read_bytes() for path in paths.values() if path.suffix == ".png"}
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit, verdict = run.data.tags.get("code_commit", "unknown"), verdict_of(run)
    return ReportedRun(run_id, started, commit, run.data.params, tables, figures, verdict)
