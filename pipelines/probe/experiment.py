"""The probing experiment, from a user's options to runs, tables, figures and registered vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipelines.cli.columns import name_width
from pipelines.cli.pasting import chosen
from pipelines.experiment import (
    after_random_init,
    calibrate_or_report,
    inspected_statements,
    known_selection,
    measured_last,
    resolve_series,
)
from pipelines.model_io.reading import deep_layers
from pipelines.probe.controls import Floors, measure_floors
from pipelines.probe.figures import PANEL, curve, heat_map, panel, profile
from pipelines.probe.ladder import Ladder, ladder_lines, ladder_table, ladder_verdict, lexical_ladder
from pipelines.probe.learnt import learnt_table
from pipelines.probe.notes import coinciding, saturated, without_saturation
from pipelines.probe.onsets import DimensionOnset, onset_cells, onset_lines, onset_table, onsets_of, preference_table
from pipelines.probe.options import ProbeOptions
from pipelines.probe.other_source import OtherSource, other_sources, require_others
from pipelines.probe.plan import SweepPlan
from pipelines.probe.preferences import PreferencePlan, PreferenceResult, PreferenceStore
from pipelines.probe.result import ResultStore, UnitResult
from pipelines.probe.rungs import RungResult, read_rungs
from pipelines.probe.selection import ABOVE_BOTH, NOTE, Selection
from pipelines.probe.tables import control_table, probe_table
from pipelines.probe.tracking import UnitLog, log_curves, log_preferences, promote_champion, reason_against
from pipelines.sweep.executors import Executor, choose_executor, placement_of
from pipelines.sweep.logged import run_logged
from pipelines.sweep.unit import twins
from pipelines.tracking.artifacts import log_figures, log_tables, log_text_table
from pipelines.tracking.checkpoints import step_label
from pipelines.tracking.conclusion import Conclusion, conclude, enumerated
from pipelines.tracking.runs import Run, entry_point_run
from registry.counts import counted
from registry.store import RegisteredVector


@dataclass(frozen=True)
class Found:
    """The best deep layer of one dimension at one checkpoint."""

    result: UnitResult
    layer: int
    vector: RegisteredVector | None


def run_probing(options: ProbeOptions) -> None:
    """Probe, track and register; print what was found and where it lies."""
    executor, model = choose_executor(options.scale), options.series.model
    with entry_point_run(f"probe {model}", options.params()) as run:
        # Validate cheap inputs before training or downloading a series.
        placement, pooling = placement_of(options.scale, options.placement), options.reading.pooling
        known = known_selection(model, options.series.checkpoints, options.reading)
        require_others(options.statements.chosen, options.further)
        statements = inspected_statements(options.statements, as_released=options.protocol.is_paper, pooling=pooling)
        others = other_sources(options.statements.chosen, statements, options.further)
        series = known or resolve_series(model)
        plan = SweepPlan(
            after_random_init(series, options.series.checkpoints),
            statements,
            options.protocol,
            options.reading,
            placement,
            options.keep_activations,
        )
        floors = {name: measure_floors(given, options.protocol) for name, given in statements.items()}
        found = _sweep(plan, floors, options, executor, run)
        trained = [unit for unit in found if not unit.result.checkpoint.is_random_init]
        initial = {unit.result.dimension: unit.result for unit in found if unit.result.checkpoint.is_random_init}
        selection = Selection.of([each.result for each in found], statements, options.protocol)
        preferences = _preferences(plan, found, options, executor) if options.needs_preferences else []
        ladders = _ladders(plan, selection, others, options, executor)
        # Under protocol=paper accuracies are of layers chosen on the rows tested.
        onsets = () if options.protocol.is_paper else onsets_of(options.onsets, selection, floors, preferences)
        log_curves(run.info.run_id, selection.layers, floors)
        log_preferences(run.info.run_id, preferences)
        log_tables(
            {
                "probe.csv": probe_table([each.result for each in found], floors, initial, selection.every),
                "controls.csv": control_table(series.model, floors, initial),
                "ladder.csv": ladder_table(ladders),
                "learnt.csv": learnt_table(selection, statements, options.protocol),
            }
        )
        log_tables({"onsets.csv": onset_table(series.model, onsets)} if onsets else {})
        log_tables({"preferences.csv": preference_table(preferences)} if preferences else {})
        _draw(trained, floors, initial, selection, options)
        champions = {} if options.protocol.is_paper else _promote(trained, floors, selection)
        _say_where_none(floors, options)
        last = [onset_lines(onsets)] if onsets else []
        print(summary(trained, floors, selection, champions, ladders), ladder_lines(ladders), *last, sep="\n")  # noqa: T201
        outcome = conclusion(model, trained, floors, selection, champions, onsets, ladders)
        log_text_table("probe", outcome.header, outcome.rows)
        given = measured_last(series, plan.checkpoints) | chosen(options, "seeds", "precision", "device", "figures")
        conclude(run, replace(outcome, next=calibrate_or_report(options.statements, statements, model=model, **given)))


def _say_where_none(floors: Mapping[str, Floors], options: ProbeOptions) -> None:
    if options.protocol.is_paper:
        print("no champion: protocol=paper chooses layers on the rows it tests; use protocol=sound")  # noqa: T201
    for dimension in (name for name, floor in floors.items() if floor.is_lexical):
        print(f"no champion for {dimension}: the text of its statements alone decides their label")  # noqa: T201


def _sweep(
    plan: SweepPlan, floors: Mapping[str, Floors], options: ProbeOptions, executor: Executor, run: Run
) -> list[Found]:
    """Every unit, logged below ``run`` while the next one is measured."""
    log = UnitLog(run)
    initial: dict[str, UnitResult] = {}

    def logged(result: UnitResult) -> Found:
        return _log(result, log, plan, floors, initial.setdefault(result.dimension, result), options)

    discarding = options.scale.delete_after_use
    return run_logged(plan, ResultStore(), logged, "probing", executor=executor, delete_after_use=discarding)


def _preferences(
    plan: SweepPlan, found: Sequence[Found], options: ProbeOptions, executor: Executor
) -> list[PreferenceResult]:
    """Every unit again, with the model's own preferences; checkpoints that were deleted are fetched once more."""
    after = PreferencePlan.after(plan, [each.result for each in found])
    store, discarding = PreferenceStore(), options.scale.delete_after_use
    return run_logged(after, store, lambda unit: unit, "steering", executor=executor, delete_after_use=discarding)


def _ladders(
    plan: SweepPlan,
    selection: Selection,
    others: Mapping[str, OtherSource],
    options: ProbeOptions,
    executor: Executor,
) -> list[Ladder]:
    """The ladder of each dimension's choice; the checkpoints that were chosen are read once more."""
    read: Mapping[str, Sequence[RungResult]] = {}
    if options.reads_further:
        discarding = options.scale.delete_after_use
        read = read_rungs(plan, selection.best, others, executor=executor, delete_after_use=discarding)
    return [
        lexical_ladder(selection.best[name], statements, options.protocol, read.get(name, ()), others[name])
        for name, statements in plan.statements.items()
    ]


def _log(
    result: UnitResult,
    log: UnitLog,
    plan: SweepPlan,
    floors: Mapping[str, Floors],
    initial: UnitResult,
    options: ProbeOptions,
) -> Found:
    layers = tuple(score.layer for score in result.pooled)
    best = result.best_layer(deep_layers(layers, result.n_layers))
    wanted: Sequence[int] = {"best": (best,), "all": layers, "none": ()}[options.register]
    if result.checkpoint.is_random_init:
        wanted = ()
    wanted = tuple(layer for layer in wanted if layer not in result.layers_without_direction)
    statements, floor = plan.statements[result.dimension], floors[result.dimension]
    vectors = log.add(result, statements, floor, initial, wanted)
    return Found(result, best, next((vector for vector in vectors if vector.layer == best), None))


def _draw(
    trained: Sequence[Found],
    floors: Mapping[str, Floors],
    initial: Mapping[str, UnitResult],
    selection: Selection,
    options: ProbeOptions,
) -> None:
    figures = {PANEL: panel(selection, floors)}
    for dimension, floor in floors.items():
        results = [each.result for each in trained if each.result.dimension == dimension]
        figures[f"{dimension}_heat_map"] = heat_map(results, floor)
        figures[f"{dimension}_curve"] = curve(selection.layers_of(dimension), floor, selection.initial[dimension])
        figures[f"{dimension}_profile"] = profile(results[-1], floor, initial[dimension])
    log_figures(figures, options.figures, preview=PANEL)


def _promote(trained: Sequence[Found], floors: Mapping[str, Floors], selection: Selection) -> dict[str, Found]:
    """Make each dimension's best vector its champion: the highest validation accuracy; of equals the later step.

    None where the text alone decides the label: a probe of it shows nothing about the model. A checkpoint with the
    weights of an earlier one does not contend a second time.
    """
    champions: dict[str, Found] = {}
    repeated = twins(found.result for found in trained)
    contending = [found for found in trained if found.result.checkpoint not in repeated]
    for unit in contending:
        if unit.vector is None or floors[unit.result.dimension].is_lexical:
            continue
        best = champions.get(unit.result.dimension)
        if best is None or _validation(unit) >= _validation(best):
            champions[unit.result.dimension] = unit
    for dimension, unit in champions.items():
        if unit.vector is not None:
            candidates = sum(other.result.dimension == dimension for other in contending)
            champion = promote_champion(unit.vector, _validation(unit), candidates, selection.best[dimension])
            if champion is None or champion.uri != unit.vector.uri:
                print(reason_against(unit.vector, champion))  # noqa: T201
    return champions


def _validation(found: Found) -> float:
    return found.result.score(found.layer).validation_accuracy


def summary(
    trained: Sequence[Found],
    floors: Mapping[str, Floors],
    selection: Selection,
    champions: Mapping[str, Found],
    ladders: Sequence[Ladder] = (),
) -> str:
    """What was found, one line per dimension: the champion, or the last checkpoint where nothing is registered.

    The accuracy is that of choosing checkpoint and layer as the champion was chosen, on statements without part in it.
    """
    first = next(iter(selection.best.values()))
    width = max(7, *(len(step_label(found.result.checkpoint)) for found in trained))
    says = max(10, *(len(_above(False, name, ladders)) for name in floors))
    name = name_width(floors)
    head = f"{'dimension':<{name}} {'step':>{width}} {'layer':>5}  "
    lines = [
        f"accuracy: {first.what} {first.how}; {ABOVE_BOTH}",
        f"{head}{'accuracy [95 %]':<22} {'random init':<22} {'n-gram floor':<22} {'above both':<{says}} vector",
    ]
    last = {unit.result.dimension: unit for unit in trained}
    for dimension, floor in floors.items():
        unit = champions.get(dimension, last[dimension])
        accuracy, control = selection.best[dimension].accuracy, selection.initial[dimension].accuracy
        above = _above(_is_above_controls(dimension, floor, selection), dimension, ladders)
        uri = unit.vector.uri if unit.vector else "not registered"
        lines.append(
            f"{dimension:<{name}} {step_label(unit.result.checkpoint):>{width}} {unit.layer:>5}  "
            f"{accuracy!s:<22} {control!s:<22} {floor.ngram[None]!s:<22} {above:<{says}} {uri}"
        )
    lines += [line for probe in selection.best.values() for line in saturated(probe)]
    lines += coinciding([found.result for found in trained])
    lines += without_saturation([found.result for found in trained])
    return "\n".join(["", *lines])


def conclusion(
    model: str,
    trained: Sequence[Found],
    floors: Mapping[str, Floors],
    selection: Selection,
    champions: Mapping[str, Found],
    onsets: Sequence[DimensionOnset] = (),
    ladders: Sequence[Ladder] = (),
) -> Conclusion:
    """How many dimensions can be read beyond both controls, and where each is read best."""
    above = [name for name, floor in floors.items() if _is_above_controls(name, floor, selection)]
    rows = []
    for dimension, floor in floors.items():
        best, initial = selection.best[dimension], selection.initial[dimension]
        rows.append(
            (
                dimension,
                f"{best.result.checkpoint.caption}, layer {best.layer}",
                f"{best.accuracy} (n = {best.accuracy.n})",
                str(initial.accuracy),
                str(floor.ngram[None]),
                _above(dimension in above, dimension, ladders),
                *onset_cells(onsets, dimension),
            )
        )
    checkpoints = counted(len({found.result.weights_digest for found in trained}), "checkpoint")
    dimensions = counted(len(floors), "dimension")
    return Conclusion(
        verdict=(
            f"{len(above)} of {dimensions} can be read in {model} beyond random initialisation and the n-gram floor"
            f"{enumerated(above)} ({checkpoints}).{ladder_verdict(ladders)}"
        ),
        header=(
            *("dimension", "best at", "accuracy [95 %]", "random init", "n-gram floor", "above both"),
            *(f"{kind} from step" for kind in dict.fromkeys(onset.kind for onset in onsets)),
        ),
        rows=tuple(rows),
        note=NOTE,
        vectors=tuple(found.vector for found in champions.values() if found.vector is not None),
    )


def _above(is_above: bool, dimension: str, ladders: Sequence[Ladder]) -> str:
    """A dimension that words alone carry is said to be so where it is said to be readable."""
    lexical = any(ladder.is_lexical for ladder in ladders if ladder.dimension == dimension)
    return f"{'yes' if is_above else 'no'}{', lexical' if lexical else ''}"


def _is_above_controls(dimension: str, floor: Floors, selection: Selection) -> bool:
    accuracy = selection.best[dimension].accuracy
    return accuracy.above(selection.initial[dimension].accuracy) and accuracy.above(floor.ngram[None])
