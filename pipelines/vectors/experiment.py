"""Vectors experiment: from a user's options to registered versions and their table."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from pipelines.behaviours.answers import files_by_dimension
from pipelines.cli.options import SeriesOptions
from pipelines.cli.progress import with_progress
from pipelines.estimators.estimate import GroupBootstrap
from pipelines.estimators.jackknife import jackknife_halves
from pipelines.estimators.likeness import Likeness, likenesses, mass_mean_halves
from pipelines.estimators.mass_mean import MassMean, fit_mass_mean
from pipelines.experiment import (
    audited,
    inspected_statements,
    known_layers,
    known_series,
    measured_last,
    registered_series,
    require_selectable,
    require_sources,
    resolve_series,
    series_name,
    trained_checkpoints,
)
from pipelines.model_io.activations import Activations, extract
from pipelines.model_io.answer_engines import keeping_engines
from pipelines.model_io.reading import deep_layers
from pipelines.probe.plan import SweepPlan
from pipelines.probe.result import ResultStore, UnitResult
from pipelines.statements.prose import background_prose
from pipelines.statements.signals import bootstrap_auroc
from pipelines.sweep.logged import run_with_bar
from pipelines.sweep.run import load_at, loaded
from pipelines.tracking.artifacts import log_figures, log_tables
from pipelines.tracking.conclusion import conclude
from pipelines.tracking.runs import Run, entry_point_run
from pipelines.vectors.answer_probes import AnswerProbes
from pipelines.vectors.figures import method_chart
from pipelines.vectors.methods import (
    FittingSet,
    choose_methods,
    direction_halves,
    fit_directions,
    fitting_rows,
)
from pipelines.vectors.options import VectorOptions
from pipelines.vectors.places import (
    Fitted,
    Place,
    gathered,
    layers_of,
    named_places,
    names_places,
    read_places,
    require_trainable,
    with_directions,
)
from pipelines.vectors.responses import response_directions, response_methods
from pipelines.vectors.tables import Extracted, conclusion, summary, vector_table
from pipelines.vectors.tracking import VectorLog, champion_place
from pipelines.vectors.transfer import Target, rescaled
from registry.checkpoints import Checkpoint, CheckpointSeries
from registry.errors import CorruptFile, InvalidInput, NotFound

Fits = tuple[tuple[str, ...], int]
"""Methods to fit, and how many of each control."""


def run_extraction(options: VectorOptions) -> None:
    """Fit, register and print every vector asked for, beside its controls."""
    methods = choose_methods(options.methods)
    require_layers(options.layers, methods)
    with entry_point_run(f"vectors {options.series.model}", options.params()) as run:
        # Validate cheap inputs before training or downloading a series.
        placement = options.placement.resolved()
        require_sources(options.statements)
        known = known_series(options.series.model)
        known_target = known_series(options.target) if options.target else None
        if names_places(options.layers):
            require_depth(options.layers, options.series, known)
        series, checkpoints = _trained(options, known)
        statements = inspected_statements(options.statements)
        plan = SweepPlan(checkpoints, statements, options.protocol, placement=placement)
        results = run_with_bar(plan, ResultStore())
        target, fits = _target(options, known_target), (methods, options.controls)
        served = target.name if target else ""
        wanted = {unit.digest: places_to_fit(options.layers, unit, served) for unit in results}
        for chosen in wanted.values():
            require_trainable(chosen, methods)
        places = _with_directions(wanted, results)
        extracted = [
            vector
            for checkpoint in checkpoints
            for vector in _extract(
                checkpoint,
                [unit for unit in results if unit.checkpoint == checkpoint],
                places,
                plan,
                fits,
                run,
                target,
                files_by_dimension(options.answers),
            )
        ]
        table = vector_table(extracted)
        log_tables({"vectors.csv": table})
        charts = {f"{name}_methods": method_chart(table, name) for name in statements}
        log_figures(charts, options.figures, preview=next(iter(charts)))
        print(summary(extracted))  # noqa: T201
        measured = {} if options.target else measured_last(series, checkpoints)
        conclude(run, conclusion(options, extracted, measured, statements))


def _with_directions(
    wanted: Mapping[str, tuple[Place, ...]], results: Sequence[UnitResult]
) -> dict[str, tuple[Place, ...]]:
    """The places by unit at which there are directions; the others are printed. Raises ``InvalidInput`` for none."""
    able = {unit.digest: with_directions(wanted[unit.digest], unit) for unit in results}
    lines = [line for _, line in able.values() if line]
    if not any(places for places, _ in able.values()):
        raise InvalidInput(f"{'; '.join(lines)}: choose other `layers` or `checkpoints`")
    print("\n".join([*lines, ""]) if lines else "", end="")  # noqa: T201
    return {digest: places for digest, (places, _) in able.items()}


def _trained(options: VectorOptions, known: CheckpointSeries | None) -> tuple[CheckpointSeries, tuple[Checkpoint, ...]]:
    require_selectable(options.series.model, options.series.checkpoints)
    series = registered_series(options.series.model, known)
    return series, audited(series, trained_checkpoints(series, options.series.checkpoints)).usable


def _target(options: VectorOptions, known: CheckpointSeries | None) -> Target | None:
    """The last checkpoint of the model that vectors are for, loaded."""
    if not options.target:
        return None
    checkpoint = (known or resolve_series(options.target)).select("last")[0]
    return Target(load_at(checkpoint, options.placement))


def require_layers(spec: str, methods: Sequence[str]) -> None:
    """Raise ``InvalidInput``, before anything is read, for ``layers`` that no vector can be made at."""
    if spec in ("best", "champion"):
        return
    if not names_places(spec):
        raise InvalidInput(
            f"layers {spec!r} is neither 'best', 'champion' nor numbers separated by commas, or ranges such as 10-14"
        )
    require_trainable(named_places(spec), methods)


def require_depth(spec: str, options: SeriesOptions, series: CheckpointSeries | None) -> None:
    """Raise ``Mismatch`` for numbered layers that the networks of a series lack, before it is trained or fetched."""
    with suppress(NotFound, CorruptFile):  # a checkpoint that cannot be measured is the audit's to name
        read_places(spec, known_layers(series, options.checkpoints), series_name(options.model, series))


def places_to_fit(spec: str, result: UnitResult, target: str = "") -> tuple[Place, ...]:
    """The places that ``spec`` names for one unit: ``best``, ``champion``, numbers, ranges. Raises ``InvalidInput``."""
    if spec == "best":
        layers = tuple(score.layer for score in result.pooled)
        return ((result.best_layer(deep_layers(layers, result.n_layers)),),)
    if spec == "champion":
        return (champion_place(target or result.checkpoint.model, result.dimension),)
    return read_places(spec, result.n_layers, result.checkpoint.model)


def _extract(
    checkpoint: Checkpoint,
    results: list[UnitResult],
    places: Mapping[str, tuple[Place, ...]],
    plan: SweepPlan,
    fits: Fits,
    run: Run,
    target: Target | None,
    files: Mapping[str, Path],
) -> Iterator[Extracted]:
    """All vectors of one checkpoint; its statements are read again, at the layers wanted only."""
    results = [unit for unit in results if places[unit.digest]]
    if not results:
        return
    several = any(len(places[unit.digest]) > 1 for unit in results)
    log, prose = VectorLog(run, plan.checkpoints[0].line, tells_layers=several), background_prose()
    with loaded(checkpoint, plan.placement) as model, keeping_engines(model):
        probes = AnswerProbes(model)
        if target and (warning := target.require_takes(model)):
            print(f"{warning}\n")  # noqa: T201
        needed = layers_of(place for unit in results for place in places[unit.digest])
        background = extract(model, prose, layers=needed)
        for result in with_progress(results, f"vectors, {checkpoint.caption}", "dimension"):
            statements = plan.statements[result.dimension]
            given = layers_of(places[result.digest])
            activations = extract(model, statements.texts, layers=given)
            on_answers = response_methods(result.dimension, fits[0], files)
            responses = list(response_directions(model, result.dimension, given, on_answers, files))
            for place in places[result.digest]:
                read = list(gathered(responses, [place]))
                yield from _fit(result, place, activations, background, plan, fits, read, log, target, probes)
        for note in probes.notes:
            print(f"{note}\n")  # noqa: T201


def _fit(
    result: UnitResult,
    place: Place,
    activations: Activations,
    background: Activations,
    plan: SweepPlan,
    fits: Fits,
    responses: Sequence[Fitted],
    log: VectorLog,
    target: Target | None,
    probes: AnswerProbes,
) -> Iterator[Extracted]:
    """Vectors of one place: fitted where probing fits directions, judged on the fold that it leaves out."""
    statements = plan.statements[result.dimension]
    train = fitting_rows(statements, plan.protocol)
    labels, groups = statements.labels, statements.groups
    features = {layer: activations.layer(layer) for layer in place}
    fitting = {
        layer: FittingSet(features[layer][train], labels[train], groups[train], background.layer(layer))
        for layer in place
    }
    read = {layer: target.features(statements, layer) for layer in place} if target else features
    own = {layer: fit_mass_mean(read[layer][train], labels[train]) for layer in place}
    bootstrap = GroupBootstrap(groups[~train])
    halves = jackknife_halves(groups[train], 0)
    by_layer = [
        [(layer, each) for each in fit_directions(fitting[layer], *fits, rank)] for rank, layer in enumerate(place)
    ]
    for fitted in (*gathered(chain.from_iterable(by_layer), [place]), *responses):
        if target:
            fitted = {layer: rescaled(fitted[layer], read[layer][train], own[layer].scale) for layer in place}
        by_scale = [read[layer][~train] @ fitted[layer].unit / fitted[layer].scale for layer in place]
        auroc = bootstrap_auroc(labels[~train], np.stack(by_scale).sum(axis=0, dtype=np.float64), bootstrap)
        cosine = _cosine(fitted, own)
        probe = probes.of(fitted)
        registered = log.add(result, fitted, auroc, cosine, target.model if target else None, probe)
        likeness = None
        if len(place) == 1:
            likeness = _likeness(fitting[place[0]], fitted[place[0]].method, read[place[0]][train], halves)
        yield Extracted(result, fitted, auroc, cosine, registered, likeness, probe)


def _cosine(fitted: Fitted, own: Mapping[int, MassMean]) -> float:
    """Of what two vectors add, over all of their layers together."""
    ours = np.concatenate([fitted[layer].scale * fitted[layer].unit for layer in fitted])
    theirs = np.concatenate([own[layer].scale * own[layer].direction for layer in fitted])
    return float(ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs)))


def _likeness(
    fitting: FittingSet,
    method: str,
    read: Float32[np.ndarray, "n d_model"],
    halves: Bool[np.ndarray, "halves n"],
) -> Likeness | None:
    """Of a method's direction with the mass-mean direction of the activations ``read``."""
    fitted_halves = direction_halves(fitting, method, halves)
    if fitted_halves is None:
        return None
    own_halves = mass_mean_halves(read, fitting.labels, halves)
    return likenesses([fitted_halves], [own_halves])[0][0]
