"""Probing runs in MLflow: the finished one of each model that is compared."""

import re
from collections.abc import Mapping, Sequence

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipelines.compare.series import ProbedSeries, probe_command, read_curves
from pipelines.experiment import require_model
from pipelines.tracking.artifacts import logged_tables
from pipelines.tracking.runs import Run, newest_finished, params_of
from registry.embedded import spellings
from registry.errors import InvalidInput, NotFound

RUN_ID = re.compile(r"[0-9a-f]{32}")


def probed_series(models: Sequence[str]) -> list[ProbedSeries]:
    """The newest finished probing run of each of ``models``, or the run that it is the id of.

    Raises ``NotFound`` for a model without one, with the command that makes one like those of the others.
    """
    runs = [_run_of(model) for model in models]
    like = next((params_of(run) for run in runs if run is not None), {})
    for model, run in zip(models, runs, strict=True):
        if run is None:
            require_model(model)
            raise NotFound(f"MLflow has no finished probe run of {model}; probe it first: {probe_command(model, like)}")
    return [_read(run, model) for model, run in zip(models, runs, strict=True) if run is not None]


def _run_of(model: str) -> Run | None:
    if not RUN_ID.fullmatch(model):
        return newest_finished("probe", [{"model": spelling} for spelling in spellings(model)])
    try:
        run = MlflowClient().get_run(model)
    except MlflowException as error:
        raise NotFound(f"MLflow has no run {model}; give a model as it was given to probe, such as tiny:1") from error
    kind = run.data.tags.get("trusttrace.entry_point", "unknown")
    if kind != "probe" or run.info.status != "FINISHED":
        raise InvalidInput(
            f"the run {model} is of {kind} and {run.info.status}; give the id of a finished run of probe, or a model"
        )
    return run


def _read(run: Run, given: str) -> ProbedSeries:
    tables, params, run_id = logged_tables(run.info.run_id), params_of(run), run.info.run_id
    model = params.get("model", "")
    probes, controls = tables.get("probe.csv"), tables.get("controls.csv")
    units = [unit for unit in _units(run) if unit.get("checkpoint") != "random init"]
    if probes is None or controls is None or "selected" not in probes or not units:
        raise NotFound(
            f"the run {run_id} of {model} lacks what is compared: its tables, its units, or the accuracy of the choice "
            f"of a layer, which older versions did not log; probe it again: {probe_command(model, params)}"
        )
    curves, left_out = read_curves(probes, controls, tables.get("series.csv"))
    return ProbedSeries(
        name=str(probes["model"].iloc[0]),
        given=given,
        model=model,
        run_id=run_id,
        started=run.info.start_time,
        params=params,
        statements={unit["dimension"]: unit["statements_digest"] for unit in units},
        weights=frozenset(unit["weights_digest"] for unit in units),
        curves=curves,
        left_out=left_out,
    )


def _units(run: Run) -> list[Mapping[str, str]]:
    """The tags of the runs of each checkpoint and dimension."""
    children = mlflow.search_runs(
        [run.info.experiment_id],
        f"attributes.status = 'FINISHED' and tags.`mlflow.parentRunId` = '{run.info.run_id}'",
        output_format="list",
    )
    return [child.data.tags for child in children if "unit_digest" in child.data.tags]
