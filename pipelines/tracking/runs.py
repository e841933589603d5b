"""The run of an entry point: the one `mlflow run` opened, or a new one; a failure never leaves it RUNNING."""

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# Before MLflow is imported: it reads them once.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.entities import Run as Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipelines.tracking.links import PARENTS, run_path
from pipelines.tracking.named_experiment import experiment_is_named
from registry.errors import InvalidInput, TrustTraceError, Unavailable, redacted
from registry.mlflow_client import reachable
from registry.records import EXPERIMENT
from registry.sqlite_files import in_turn, require_database

DEFAULT_EXPERIMENT_ID = "0"
BANNER = f"""Search `` {PARENTS} `` to see the commands alone: each has child runs for checkpoints and dimensions.

A run's description has its verdict and its table, its artifacts the figures. Steering vectors are under *Models*, as
`steer.<model>.<dimension>`; services follow the alias `champion`."""
DESCRIPTION = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment."""
MOVED_TO = "trusttrace.moved_to"
"""On a run that `mlflow run` opened in ``Default``: the id of the command's run."""
METRICS_PER_BATCH = 1000

Point = tuple[str, float, int]
"""A metric's name, value and step."""


@contextmanager
def entry_point_run(name: str, params: Mapping[str, object]) -> Iterator[Run]:
    """The run that an entry point logs to. An error inside marks it FAILED, with the error's words as a tag.

    `mlflow run` has already opened a run and recorded its declared parameters; otherwise a run is opened in the
    experiment ``MLFLOW_EXPERIMENT_NAME``, or ``trusttrace``. A run that `mlflow run` opened in ``Default``, because no
    experiment was named, has its place taken by one in ``trusttrace``. Raises ``Unavailable`` when the store does not
    answer.
    """
    name = _shown(name)
    try:
        with reachable():
            address = mlflow.get_tracking_uri()
            require_database(address)
            with in_turn(address):
                run = _start_run(name)
    except MlflowException as error:
        raise Unavailable(
            redacted(f"MLflow at {mlflow.get_tracking_uri()} does not answer: {error.message}")
        ) from error
    try:
        with reachable():
            mlflow.set_tags(
                {"mlflow.runName": name, "trusttrace.entry_point": name.split(" ")[0], "code_commit": code_commit()}
            )
            declared = set(run.data.params)
            mlflow.log_params({key: value for key, value in params.items() if key not in declared})
            yield run
            mlflow.end_run("FINISHED")
    except BaseException as error:
        _lose_patience(error)
        with suppress(Exception):  # what went wrong first is what the user must hear of
            mlflow.set_tag("trusttrace.error", _sentence(error))
            mlflow.end_run("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


def _shown(name: str) -> str:
    """``probe /runs/a/checkpoints`` → ``probe checkpoints``: MLflow's list of runs cuts names after 20 letters."""
    command, _, model = name.partition(" ")
    return f"{command} {Path(model).name}" if os.sep in model and Path(model).expanduser().exists() else name


def _start_run(name: str) -> Run:
    opened = os.environ.get("MLFLOW_RUN_ID")
    moved = None if opened is None else _in_default(opened)
    if opened is not None and moved is None:
        return mlflow.start_run()
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        os.environ.pop(variable, None)
    experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
    if DESCRIPTION not in experiment.tags:
        mlflow.set_experiment_tag(DESCRIPTION, BANNER)
    run: Run = mlflow.start_run(run_name=name)
    if moved is not None:
        mlflow.set_tags({key: value for key, value in moved.data.tags.items() if key != "mlflow.runName"})
        mlflow.log_params(params_of(moved))
        _leave(moved, run)
        run = MlflowClient().get_run(run.info.run_id)
    return run


def _leave(moved: Run, run: Run) -> None:
    """Let ``moved`` lead to ``run``. `mlflow run` ends it after the command, so the next command deletes it."""
    client = MlflowClient()
    for ended in client.search_runs([DEFAULT_EXPERIMENT_ID], f"tags.`{MOVED_TO}` != '' and status != 'RUNNING'"):
        with suppress(MlflowException):  # a command that starts at the same time has deleted it
            client.delete_run(ended.info.run_id)
    link = f"This command's run is in [{EXPERIMENT}]({run_path(run.info.experiment_id, run.info.run_id)})."
    for key, value in (
        (MOVED_TO, run.info.run_id),
        (DESCRIPTION, link),
        ("mlflow.runName", f"{run.info.run_name}, in {EXPERIMENT}"),
    ):
        client.set_tag(moved.info.run_id, key, value)


def _in_default(run_id: str) -> Run | None:
    """The run, if `mlflow run` opened it in ``Default`` and nobody chose that experiment."""
    if experiment_is_named():
        return None
    run = MlflowClient().get_run(run_id)
    return run if run.info.experiment_id == DEFAULT_EXPERIMENT_ID else None


@contextmanager
def child_run(name: str, tags: Mapping[str, str], parent: Run) -> Iterator[Run]:
    """A run below ``parent``; FAILED when an error leaves it. Each thread may have one open."""
    # Given as an argument the parent would be fetched, to see whether it is deleted.
    below = {**tags, MLFLOW_PARENT_RUN_ID: parent.info.run_id}
    with mlflow.start_run(run_name=name, nested=True, tags=below, experiment_id=parent.info.experiment_id) as run:
        try:
            yield run
        except BaseException as error:
            _lose_patience(error)
            raise


def _lose_patience(error: BaseException) -> None:
    """After a store has not answered for minutes, let farewells to it fail at once instead of minutes later each."""
    if isinstance(error, Unavailable | MlflowException):
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"


def newest_finished(entry_point: str, params: Sequence[Mapping[str, str]]) -> Run | None:
    """The newest finished run of ``entry_point`` that was given any of these sets of parameters.

    Raises ``InvalidInput`` for a value that MLflow cannot search for.
    """
    newest: Run | None = None
    for query in dict.fromkeys(query for given in params for query in _queries(given)):
        runs = mlflow.search_runs(
            search_all_experiments=True,
            filter_string=f"attributes.status = 'FINISHED' and tags.`trusttrace.entry_point` = '{entry_point}'{query}",
            order_by=["attributes.start_time DESC"],
            max_results=1,
            output_format="list",
        )
        if runs and (newest is None or runs[0].info.start_time > newest.info.start_time):
            newest = runs[0]
    return newest


def _queries(given: Mapping[str, str]) -> Iterator[str]:
    """For parameters as they were given, and as `mlflow run` records those that a shell would have quoted."""
    for name, value in given.items():
        if "'" in value or "\\" in value:
            raise InvalidInput(f"{name} {value!r} holds a quote or a backslash, which MLflow cannot search for")
    yield "".join(f" and params.{name} = '{value}'" for name, value in given.items())
    yield "".join(f' and params.{name} = "{shlex.quote(value)}"' for name, value in given.items())


def params_of(run: Run) -> dict[str, str]:
    """The parameters of a run as they were given: `mlflow run` records a path with spaces in a shell's quotes."""
    return {name: _unquoted(value) for name, value in run.data.params.items()}


def _unquoted(value: str) -> str:
    with suppress(ValueError):  # a quote that nothing closes
        words = shlex.split(value)
        if len(words) == 1 and shlex.quote(words[0]) == value:
            return words[0]
    return value


def log_points(
    run_id: str,
    points: Sequence[Point],
    params: Mapping[str, object] | None = None,
    further: Sequence[Metric] = (),
) -> None:
    """Log many metrics at once, with ``further`` ones; one at a time each would cost a transaction."""
    client = MlflowClient()
    metrics = [*(Metric(key, value, 0, step) for key, value, step in points), *further]
    first = [mlflow.entities.Param(key, str(value)) for key, value in (params or {}).items()]
    for start in range(0, max(len(metrics), 1), METRICS_PER_BATCH):
        client.log_batch(run_id, metrics[start : start + METRICS_PER_BATCH], first if start == 0 else ())


@cache
def code_commit() -> str:
    """The commit of the code that runs, ``-dirty`` when files differ from it.

    Outside a repository it is ``$TRUSTTRACE_COMMIT``, which an image carries, or ``unknown``.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("TRUSTTRACE_COMMIT") or "unknown"
    return commit.stdout.strip() + ("-dirty" if status.stdout.strip() else "")


def _sentence(error: BaseException) -> str:
    text = str(error) if isinstance(error, TrustTraceError) else f"{type(error).__name__}: {error}"
    return text[:4000]
