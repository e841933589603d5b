"""Vectors experiment: from a user's options to registered versions and their table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.behaviours.answers import files_by_dimension
from pipelines.cli.pasting import mlflow_run
from pipelines.cli.progress import with_progress
from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.estimators.jackknife import jackknife_halves
from pipelines.estimators.likeness import Likeness, likenesses, mass_mean_halves
from pipelines.estimators.mass_mean import fit_mass_mean
from pipelines.experiment import (
    audited,
    inspected_statements,
    registered_series,
    resolve_series,
    trained_checkpoints,
)
from pipelines.model_io.activations import Activations, extract
from pipelines.model_io.reading import Reading, deep_layers
from pipelines.probe.plan import SweepPlan
from pipelines.probe.result import ResultStore, UnitResult
from pipelines.statements.prose import background_prose
from pipelines.statements.signals import bootstrap_auroc
from pipelines.sweep.logged import run_with_bar
from pipelines.sweep.run import load_at, loaded
from pipelines.tracking.artifacts import log_figures, log_tables
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table, step_label
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.runs import Run, entry_point_run
from pipelines.vectors.figures import method_chart
from pipelines.vectors.methods import (
    FittedDirection,
    FittingSet,
    choose_methods,
    direction_halves,
    fit_directions,
    fitting_rows,
)
from pipelines.vectors.options import VectorOptions
from pipelines.vectors.responses import response_directions, response_methods
from pipelines.vectors.tracking import VectorLog, champion_layer
from pipelines.vectors.transfer import Target, rescaled
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput
from registry.store import RegisteredVector

COLUMNS = checkpoint_columns(
    "target", "dimension", "layer", "method", "draw", "auroc", "auroc_low", "auroc_high", "n_test",
    "n_train", "cosine_with_mass_mean", "scale", "vector",
    "ceiling", "cosine_disjoint", "cosine_disjoint_low", "cosine_disjoint_high", "another_direction",
)  # fmt: skip


Fits = tuple[tuple[str, ...], int]
"""Methods to fit, and how many of each control."""


@dataclass(frozen=True)
class Extracted:
    """One vector, how well it tells held-out statements apart, and its version."""

    result: UnitResult
    layer: int
    fitted: FittedDirection
    auroc: Estimate
    cosine: float
    """With the mass-mean direction of the same layer, of the target where there is one."""
    vector: RegisteredVector
    likeness: Likeness | None
    """The same beside its ceiling; ``None`` for controls, and where answers were fitted on."""


def run_extraction(options: VectorOptions) -> None:
    """Fit, register and print every vector asked for, beside its controls."""
    methods = choose_methods(options.methods)
    with entry_point_run(f"vectors {options.series.model}", options.params()) as run:
        checkpoints = _trained(options)
        statements = inspected_statements(options.statements)
        plan = SweepPlan(checkpoints, statements, options.protocol, placement=options.placement)
        results = run_with_bar(plan, ResultStore())
        target, fits = _target(options), (methods, options.controls)
        served = target.name if target else ""
        layers = {unit.digest: layers_to_fit(options.layers, unit, served) for unit in results}
        extracted = [
            vector
            for checkpoint in checkpoints
            for vector in _extract(
                checkpoint,
                [unit for unit in results if unit.checkpoint == checkpoint],
                layers,
                plan,
                fits,
                run,
                target,
                files_by_dimension(options.answers),
            )
        ]
        table = vector_table(extracted)
        log_tables({"vectors.csv": table})
        log_figures({f"{name}_methods": method_chart(table, name) for name in statements}, options.figures)
        print(summary(extracted))  # noqa: T201
        conclude(run, conclusion(options, extracted))


def _trained(options: VectorOptions) -> tuple[Checkpoint, ...]:
    series = registered_series(options.series.model)
    return audited(series, trained_checkpoints(series, options.series.checkpoints)).usable


def _target(options: VectorOptions) -> Target | None:
    """The last checkpoint of the model that vectors are for, loaded."""
    if not options.target:
        return None
    checkpoint = resolve_series(options.target).select("last")[0]
    return Target(load_at(checkpoint, options.placement))


def layers_to_fit(spec: str, result: UnitResult, target: str = "") -> tuple[int, ...]:
    """The layers that ``spec`` names for one unit: ``best``, ``champion`` or numbers. Raises ``InvalidInput``."""
    if spec == "best":
        layers = tuple(score.layer for score in result.pooled)
        return (result.best_layer(deep_layers(layers, result.n_layers)),)
    if spec == "champion":
        return (champion_layer(target or result.checkpoint.model, result.dimension),)
    if not all(part.strip().isdigit() for part in spec.split(",")):
        raise InvalidInput(f"layers {spec!r} is neither 'best', 'champion' nor numbers separated by commas")
    return Reading(layers=spec).chosen_layers(result.n_layers, result.checkpoint.model)


def _extract(
    checkpoint: Checkpoint,
    results: list[UnitResult],
    layers: Mapping[str, tuple[int, ...]],
    plan: SweepPlan,
    fits: Fits,
    run: Run,
    target: Target | None,
    files: Mapping[str, Path],
) -> Iterator[Extracted]:
    """All vectors of one checkpoint; its statements are read again, at the layers wanted only."""
    log, prose = VectorLog(run, plan.checkpoints[0].line), background_prose()
    with loaded(checkpoint, plan.placement) as model:
        if target and (warning := target.require_takes(model)):
            print(f"{warning}\n")  # noqa: T201
        background = extract(model, prose, layers=sorted({layer for unit in results for layer in layers[unit.digest]}))
        for result in with_progress(results, f"vectors, {checkpoint.label}", "dimension"):
            statements = plan.statements[result.dimension]
            activations = extract(model, statements.texts, layers=layers[result.digest])
            on_answers = response_methods(result.dimension, fits[0], files)
            given = activations.layers
            responses = list(response_directions(model, result.dimension, given, on_answers, files))
            for layer in activations.layers:
                read = [fitted for place, fitted in responses if place == layer]
                yield from _fit(result, layer, activations, background, plan, fits, read, log, target)


def _fit(
    result: UnitResult,
    layer: int,
    activations: Activations,
    background: Activations,
    plan: SweepPlan,
    fits: Fits,
    responses: Sequence[FittedDirection],
    log: VectorLog,
    target: Target | None,
) -> Iterator[Extracted]:
    """Vectors of one layer: fitted where probing fits directions, judged on the fold that it leaves out."""
    statements = plan.statements[result.dimension]
    train = fitting_rows(statements, plan.protocol)
    features, labels, groups = activations.layer(layer), statements.labels, statements.groups
    fitting = FittingSet(features[train], labels[train], groups[train], background.layer(layer))
    read = target.features(statements, layer) if target else features
    own = fit_mass_mean(read[train], labels[train])
    bootstrap = GroupBootstrap(groups[~train])
    halves = jackknife_halves(groups[train], 0)
    own_halves = mass_mean_halves(read[train], labels[train], halves)
    for fitted in (*fit_directions(fitting, *fits), *responses):
        if target:
            fitted = rescaled(fitted, read[train], own.scale)
        projections = (read[~train] @ fitted.unit).astype(np.float64)
        auroc = bootstrap_auroc(labels[~train], projections, bootstrap)
        cosine = float(fitted.unit @ own.direction)
        registered = log.add(result, layer, fitted, auroc, cosine, target.model if target else None)
        fitted_halves = direction_halves(fitting, fitted.method, halves)
        likeness = likenesses([fitted_halves], [own_halves])[0][0] if fitted_halves else None
        yield Extracted(result, layer, fitted, auroc, cosine, registered, likeness)


def vector_table(extracted: list[Extracted]) -> pd.DataFrame:
    """``vectors.csv``: every vector with the AUROC of held-out statements' projections on it."""
    rows = []
    for vector in extracted:
        unit, fitted, auroc, layer = vector.result, vector.fitted, vector.auroc, vector.layer
        target = vector.vector.tags.get("target", "")
        where = (target, unit.dimension, layer, fitted.method, fitted.seed)
        quality = (auroc.value, auroc.low, auroc.high, auroc.n, unit.direction(layer).n_train)
        row = (*where, *quality, vector.cosine, fitted.scale, vector.vector.uri, *_likeness_cells(vector))
        rows.append((unit.checkpoint, row))
    return checkpoint_table(rows, COLUMNS)


def _likeness_cells(vector: Extracted) -> tuple[object, ...]:
    pair = vector.likeness
    return (None,) * 5 if pair is None else (pair.ceiling, pair.disjoint, pair.low, pair.high, pair.verdict)


def summary(extracted: list[Extracted]) -> str:
    """The registered vectors, one line each."""
    width = max([7, *(len(step_label(vector.result.checkpoint)) for vector in extracted)])
    lines = [
        f"{'dimension':<12} {'step':>{width}} {'layer':>5}  {'method':<13} {'AUROC [95 %]':<22} {'cosine':>7} "
        f"{'ceiling':>7} {'another':<14} vector"
    ]
    lines += [
        f"{vector.result.dimension:<12} {step_label(vector.result.checkpoint):>{width}} {vector.layer:>5}  "
        f"{vector.fitted.label:<13} {vector.auroc!s:<22} {vector.cosine:>7.3f} {_ceiling(vector)} "
        f"{vector.vector.uri}"
        for vector in extracted
    ]
    notes = (
        "AUROC is of held-out statements' projections; cosine is with the mass-mean direction of the same layer;",
        "ceiling: what estimates of one direction reach, by split halves; another: whether they are surely two.",
    )
    return "\n".join(["", *lines, "", *notes])


def _ceiling(vector: Extracted) -> str:
    pair = vector.likeness
    if pair is None:
        return f"{'':>7} {'':<14}"
    return f"{pair.ceiling:>7.3f} {pair.verdict:<14}" if pair.can_be_told else f"{'':>7} {pair.verdict:<14}"


def conclusion(options: VectorOptions, extracted: Sequence[Extracted]) -> Conclusion:
    """How well each registered vector separates held-out statements, and how to let them compete."""
    model = options.target or options.series.model
    candidates = [vector.vector for vector in extracted if not vector.fitted.is_control]
    references = ",".join(f"{vector.name}/{vector.version}" for vector in candidates)
    return Conclusion(
        verdict=(
            f"{len(candidates)} vectors and {len(extracted) - len(candidates)} controls of {model}; none is served "
            "until calibration makes it champion."
        ),
        header=("dimension", "step", "layer", "method", "AUROC [95 %]", "version"),
        rows=tuple(
            (
                *(vector.result.dimension, step_label(vector.result.checkpoint), str(vector.layer)),
                *(vector.fitted.label, f"{vector.auroc} (n = {vector.auroc.n})"),
                f"{vector.vector.name}/{vector.vector.version}",
            )
            for vector in extracted
        ),
        vectors=tuple(candidates),
        next=mlflow_run("calibrate", options.statements, model=model, methods="none", vectors=references),
    )
