"""The information experiment, from a user's options to runs, tables and figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipelines.cli.options import Look
from pipelines.cli.pasting import chosen, mlflow_run
from pipelines.cli.progress import progress_bar, with_progress
from pipelines.experiment import after_random_init, inspected_statements, known_selection, resolve_series
from pipelines.information.calibration import calibrate_information, calibration_lines
from pipelines.information.figures import (
    curves,
    heat_maps,
    information_calibration,
    information_plane,
    transfer_matrices,
)
from pipelines.information.options import InformationOptions
from pipelines.information.plan import InformationPlan
from pipelines.information.result import InformationResult
from pipelines.information.store import InformationStore
from pipelines.information.summary import conclusion, summary
from pipelines.information.tables import (
    bandwidth_table,
    calibration_table,
    dynamics_table,
    information_table,
    phase_table,
    transfer_table,
)
from pipelines.information.tracking import InformationLog, log_trajectories
from pipelines.information.trajectory import Trajectory, analyse, corrected
from pipelines.pretrain.trainer import MANIFEST
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.executors import Executor, choose_executor, placement_of
from pipelines.sweep.logged import run_logged
from pipelines.tracking.artifacts import log_figures, log_tables
from pipelines.tracking.conclusion import conclude
from pipelines.tracking.runs import Run, entry_point_run
from registry.checkpoints import Checkpoint


def run_information(options: InformationOptions) -> None:
    """Measure, track, and print what was found and where it lies."""
    executor, model = choose_executor(options.scale), options.series.model
    with entry_point_run(f"information {model}", options.params()) as run:
        # Validate cheap inputs before training or downloading a series.
        placement = placement_of(options.scale, options.placement)
        known = known_selection(model, options.series.checkpoints)
        statements = inspected_statements(
            options.statements, as_released=options.settings.is_paper, pooling=options.reading.pooling
        )
        checkpoints = after_random_init(known or resolve_series(model), options.series.checkpoints)
        warmup = known_warmup(checkpoints[0]) if options.warmup_steps is None else options.warmup_steps
        store = InformationStore()
        unprepared = InformationPlan(checkpoints, statements, options.settings, options.reading, placement)
        plan = _prepared(unprepared, store)
        results = _sweep(plan, store, options, executor, run)
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
        _draw(trajectories, warmup, options.figures)
        print(summary(trajectories, warmup))  # noqa: T201
        if options.calibrate and not options.settings.is_paper:
            _calibrate(trajectories, statements, store, options)
        conclude(run, replace(conclusion(trajectories), next=_next(options)))


def _calibrate(
    trajectories: Sequence[Trajectory],
    statements: Mapping[str, LabelledStatements],
    store: InformationStore,
    options: InformationOptions,
) -> None:
    """Check the estimators at the last checkpoint, on labels whose information is known."""
    calibrations = [
        calibrate_information(trajectory.trained[-1], statements[trajectory.dimension], store, options.settings)
        for trajectory in with_progress(trajectories, "calibrating", "dimension")
    ]
    log_tables({"information_calibration.csv": calibration_table(calibrations)})
    log_figures({"information_calibration": information_calibration(calibrations)}, options.figures)
    print(calibration_lines(calibrations))  # noqa: T201


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
    plan: InformationPlan, store: InformationStore, options: InformationOptions, executor: Executor, run: Run
) -> list[InformationResult]:
    """Every unit, logged below ``run`` while the next one is measured."""
    log = InformationLog(run)

    def logged(result: InformationResult) -> InformationResult:
        log.add(result, plan.statements[result.dimension])
        return result.without_states()

    return run_logged(
        plan, store, logged, "measuring", executor=executor, delete_after_use=options.scale.delete_after_use
    )


def _draw(trajectories: Sequence[Trajectory], warmup_steps: int | None, look: Look) -> None:
    for trajectory in trajectories:
        log_figures(
            {
                f"{trajectory.dimension}_information_plane": information_plane(trajectory),
                f"{trajectory.dimension}_curves": curves(trajectory, warmup_steps),
                f"{trajectory.dimension}_heat_maps": heat_maps(trajectory),
                f"{trajectory.dimension}_transfer": transfer_matrices(trajectory),
            },
            look,
            preview=f"{trajectory.dimension}_curves" if trajectory is trajectories[0] else "",
        )


def _next(options: InformationOptions) -> str:
    swept = chosen(options, "checkpoints", "precision", "device", "device_map", "figures")
    return mlflow_run("probe", options.statements, options.reading, options.scale, model=options.series.model, **swept)
