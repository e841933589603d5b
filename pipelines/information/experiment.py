"""The information experiment, from a user's options to runs, tables and figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.cli.progress import progress_bar, with_progress
from pipelines.experiment import EMBEDDED, after_random_init, inspected_statements, resolve_series
from pipelines.information.figures import curves, heat_maps, information_plane, transfer_matrices
from pipelines.information.plan import InformationPlan
from pipelines.information.result import InformationResult, InformationSettings
from pipelines.information.store import InformationStore
from pipelines.information.summary import summary
from pipelines.information.tables import (
    bandwidth_table,
    dynamics_table,
    information_table,
    phase_table,
    transfer_table,
)
from pipelines.information.tracking import InformationLog, log_trajectories
from pipelines.information.trajectory import Trajectory, analyse, corrected
from pipelines.pretrain.trainer import MANIFEST
from pipelines.sweep.executors import Executor
from pipelines.sweep.logged import run_logged
from pipelines.sweep.run import run_sweep
from pipelines.tracking.artifacts import log_figures, log_tables
from pipelines.tracking.runs import Run, entry_point_run
from registry.checkpoints import Checkpoint
from registry.dimensions import Dimension
from serving.model.sources import find_series


@dataclass(frozen=True)
class InformationOptions:
    """What a user may choose; see ``python -m pipelines.information --help``."""

    model: str
    checkpoints: str
    dimensions: tuple[Dimension, ...]
    data: str
    limit: int
    warmup_steps: int | None
    """``None`` where the user does not say."""
    delete_after_use: bool
    settings: InformationSettings
    executor: Executor = run_sweep


def run_information(options: InformationOptions, params: Mapping[str, object]) -> None:
    """Measure, track, and print what was found and where it lies."""
    with entry_point_run(f"information {options.model}", params) as run:
        # What can be found wrong at once is, before a series is trained or fetched.
        known = None if options.model == EMBEDDED else find_series(options.model)
        statements = inspected_statements(
            options.dimensions,
            options.data,
            limit=options.limit,
            as_released=options.settings.estimator == "paper",
        )
        checkpoints = after_random_init(known or resolve_series(EMBEDDED), options.checkpoints)
        warmup = known_warmup(checkpoints[-1]) if options.warmup_steps is None else options.warmup_steps
        store = InformationStore()
        plan = _prepared(InformationPlan(checkpoints, statements, options.settings), store)
        results = _sweep(plan, store, options, run)
        seed = options.settings.seed
        trajectories = corrected(
            [
                analyse([result for result in results if result.dimension == name], statements[name], store, seed)
                for name in with_progress(statements, "analysing", "dimension")
            ],
            seed,
        )
        log_trajectories(run.info.run_id, trajectories)
        log_tables(
            {
                "information.csv": information_table(results, options.settings),
                "bandwidths.csv": bandwidth_table(results),
                "phases.csv": phase_table(trajectories, warmup),
                "dynamics.csv": dynamics_table(trajectories),
                "transfer.csv": transfer_table(trajectories),
            }
        )
        _draw(trajectories, warmup)
        print(summary(trajectories, warmup))  # noqa: T201
        print(_next(options))  # noqa: T201


def known_warmup(checkpoint: Checkpoint) -> int | None:
    """Steps of the learning rate's warm-up, where `pretrain` made the series and left its manifest."""
    manifest = Path(checkpoint.repo) / MANIFEST
    if not manifest.is_file():
        return None
    try:
        return int(json.loads(manifest.read_text())["config"]["training"]["warmup_steps"])
    except (KeyError, TypeError, ValueError):
        return None


def _prepared(plan: InformationPlan, store: InformationStore) -> InformationPlan:
    with progress_bar(len(plan.statements), "baselines", "dimension", delay=1) as bar:

        def show(dimension: str) -> None:
            bar.set_postfix_str(dimension, refresh=False)
            bar.update()

        return plan.prepared(store, show)


def _sweep(
    plan: InformationPlan, store: InformationStore, options: InformationOptions, run: Run
) -> list[InformationResult]:
    """Every unit, logged below ``run`` while the next one is measured."""
    log = InformationLog(run)

    def logged(result: InformationResult) -> InformationResult:
        log.add(result, plan.statements[result.dimension])
        return result.without_states()

    return run_logged(
        plan, store, logged, "measuring", executor=options.executor, delete_after_use=options.delete_after_use
    )


def _draw(trajectories: Sequence[Trajectory], warmup_steps: int | None) -> None:
    for trajectory in trajectories:
        log_figures(
            {
                f"{trajectory.dimension}_information_plane": information_plane(trajectory),
                f"{trajectory.dimension}_curves": curves(trajectory, warmup_steps),
                f"{trajectory.dimension}_heat_maps": heat_maps(trajectory),
                f"{trajectory.dimension}_transfer": transfer_matrices(trajectory),
            }
        )


def _next(options: InformationOptions) -> str:
    chosen = f"-P model={options.model} -P data={options.data}"
    return (
        "\nLook at runs, curves, figures and tables: make ui, then http://127.0.0.1:5000\n"
        f"next: mlflow run . -e probe --env-manager local {chosen}"
    )
