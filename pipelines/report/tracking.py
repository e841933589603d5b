"""Runs of MLflow that a report shows, and the page that is left there."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines.pretrain.options import SeriesConfig
from pipelines.report.pictures import smaller_png
from pipelines.tracking.artifacts import logged_tables
from pipelines.tracking.champions import champion_versions
from pipelines.tracking.conclusion import verdict_of
from pipelines.tracking.links import page, version_path
from pipelines.tracking.runs import newest_finished, params_of
from registry.embedded import embedded_seed, spellings
from registry.errors import TrustTraceError
from registry.store import CHAMPION, RegisteredVector, VectorStore

PAGE = "report.html"


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
    link: str = ""
    """Its page in MLflow."""


def newest_runs(model: str, entry_points: Sequence[str]) -> dict[str, ReportedRun]:
    """The newest finished run of each entry point that was given this ``model``; an embedded one's pre-training too."""
    seed = embedded_seed(model)
    newest = {}
    for kind in entry_points:
        params: list[dict[str, str]] = [{"model": spelling} for spelling in spellings(model)]
        if kind == "pretrain":
            params = [] if seed is None else [SeriesConfig().with_seed(seed).params()]
        run = newest_finished(kind, params)
        if run is not None:
            newest[kind] = _read(run)
    return newest


def reported_models(most: int = 5) -> tuple[str, ...]:
    """The models that the newest finished commands were given."""
    runs = mlflow.search_runs(
        search_all_experiments=True,
        filter_string="attributes.status = 'FINISHED' and tags.`trusttrace.entry_point` != ''",
        order_by=["attributes.start_time DESC"],
        max_results=200,
        output_format="list",
    )
    given = map(params_of, runs)
    return tuple(dict.fromkeys(params["model"] for params in given if "model" in params))[:most]


def champions(model: str) -> tuple[ChampionCard, ...]:
    """The champions of ``model`` with their calibrations."""
    return tuple(_card(vector) for vector in champion_versions(model))


def _card(vector: RegisteredVector) -> ChampionCard:
    calibration = vector.calibration
    return ChampionCard(
        {
            "dimension": vector.dimension,
            "vector": vector.uri,
            "layer": vector.tags["layer"],
            "step": vector.checkpoint_step,
            "method": vector.tags.get("method", ""),
            "statements": vector.tags.get("statements_source", ""),
            "n_train": vector.tags.get("n_train", ""),
            "safe range": f"{calibration.low:g} to {calibration.high:g}" if calibration else "not calibrated",
            "recommended": f"{calibration.recommended:g}" if calibration else "",
            "monitor": _monitor(vector),
            "why": vector.tags.get(f"{CHAMPION}_because", ""),
        },
        page(version_path(vector)),
    )


def _monitor(vector: RegisteredVector) -> str:
    """What the probe of answers beside a version is worth; nothing of a version without one that can be read."""
    with suppress(TrustTraceError):
        _, probe = VectorStore().load_with_probe(vector)
        if probe is not None and probe.quality is not None:
            quality, use = probe.quality, "" if probe.works else ", not used"
            return f"AUROC {quality.auroc:.2f} [{quality.auroc_low:.2f}, {quality.auroc_high:.2f}]{use}"
    return ""


def log_page(content: str) -> str:
    """Log the page to the active run; returns its address there."""
    mlflow.log_text(content, PAGE)
    return str(mlflow.get_artifact_uri(PAGE))


def _read(run: Run) -> ReportedRun:
    client, run_id = MlflowClient(), run.info.run_id
    with tempfile.TemporaryDirectory() as scratch:
        names = [
            artifact.path for artifact in client.list_artifacts(run_id, "figures") if artifact.path.endswith(".png")
        ]
        paths = [Path(client.download_artifacts(run_id, name, scratch)) for name in names]
        figures = {path.stem: smaller_png(path.read_bytes()) for path in paths}
    tables = logged_tables(run_id)
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit, verdict = run.data.tags.get("code_commit", "unknown"), verdict_of(run)
    return ReportedRun(run_id, started, commit, params_of(run), tables, figures, verdict)
