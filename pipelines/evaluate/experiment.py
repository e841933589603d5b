"""Evaluation experiment: from a user's options to ``evaluate.csv``, figures and a verdict for each dimension."""

import os
from collections.abc import Iterator, Mapping, Sequence

from pipelines.behaviours.names import has_behaviour
from pipelines.behaviours.pii import personal_details
from pipelines.behaviours.toxicity_classifier import Judges, held_out_auroc, packaged_classifier
from pipelines.calibrate.options import By
from pipelines.calibrate.splits import PROSE_SENTENCES
from pipelines.cli.options import Look
from pipelines.cli.pasting import chosen, mlflow_run
from pipelines.cli.progress import finish, progress_bar
from pipelines.evaluate.conditions import (
    Condition,
    Subject,
    conditions_for,
    held_out_for,
    overlap_note,
    strength_of,
)
from pipelines.evaluate.equal_cost import ProseCost
from pipelines.evaluate.figures import cost_figure, effects_figure, entanglement_figure, text_figure, tracing_figure
from pipelines.evaluate.measurement import Measurement
from pipelines.evaluate.options import EvaluateOptions
from pipelines.evaluate.requirements import further_vectors, require_reachable, traced_series
from pipelines.evaluate.results import Row, Verdict, rows_of, verdicts_of
from pipelines.evaluate.sheets import log_sheets
from pipelines.evaluate.side_effects import (
    Margins,
    SideEffect,
    side_effect_lines,
    side_effect_table,
    side_effects,
)
from pipelines.evaluate.suite import SuiteTexts, all_tasks, measure_tasks
from pipelines.evaluate.tables import conclusion, entanglement_table, evaluation_table, summary, verdict_table
from pipelines.evaluate.tasks.behaviour import behaviour_tasks
from pipelines.evaluate.tasks.harness import harness_tasks
from pipelines.evaluate.tasks.judge import Judge, judged_task
from pipelines.evaluate.tasks.presidio import presidio_details
from pipelines.evaluate.tasks.sequence_classifier import load_sequence_classifier
from pipelines.evaluate.tasks.task import Task, tasks_of
from pipelines.evaluate.text import TextDesign, TextResult, text_results
from pipelines.evaluate.text_tables import text_summary, text_table
from pipelines.evaluate.tracing import (
    TracedCheckpoint,
    correlation_summary,
    correlation_table,
    correlations,
    require_traceable,
    trace_effects,
    tracing_table,
)
from pipelines.evaluate.tracking import log_classifier, log_text_verdicts, log_verdicts, shuffled_vectors
from pipelines.experiment import (
    audited,
    inspected_statements,
    known_series,
    one_checkpoint,
    resolve_series,
    series_name,
    trained_checkpoints,
)
from pipelines.model_io.answer_engines import keeping_engines
from pipelines.model_io.continuations import require_writing
from pipelines.probe.plan import SweepPlan
from pipelines.probe.result import ResultStore
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.prose import prose_for
from pipelines.statements.sources import PACKAGED
from pipelines.sweep.logged import run_with_bar
from pipelines.sweep.protocol import FittingProtocol
from pipelines.sweep.run import loaded
from pipelines.tracking.artifacts import log_figures, log_tables
from pipelines.tracking.champions import vector_to_judge
from pipelines.tracking.conclusion import conclude
from pipelines.tracking.runs import Run, entry_point_run
from registry.checkpoints import Checkpoint, CheckpointSeries
from registry.dimensions import TOXICITY, Dimension
from serving.model.language_model import LanguageModel
from serving.model.placement import Placement
from serving.model.sources import find_series
from serving.steering.bank import ServedVector


def run_evaluation(options: EvaluateOptions) -> None:
    """Measure every condition on its tasks, compare each with the base, and print what steering is worth."""
    with entry_point_run(f"evaluate {options.checkpoint.model}", options.params()) as run:
        # Validate cheap inputs before training or downloading a checkpoint.
        finetuned = [find_series(path).checkpoints[-1] for path in options.finetuned]
        series = known_series(options.checkpoint.model)
        name = series_name(options.checkpoint.model, series)
        further = further_vectors(options)
        require_reachable(options)
        traced = traced_series(options, series)
        subjects = [_subject(dimension, name, options) for dimension in options.statements.chosen]
        for subject in subjects if options.trace is not None else ():
            require_traceable(subject)
        named = (
            None if options.classifier == PACKAGED else load_sequence_classifier(os.path.expanduser(options.classifier))
        )
        checkpoint = one_checkpoint(options.checkpoint, series)
        statements = inspected_statements(options.statements)
        protocol = FittingProtocol()
        held_out = {subject.dimension.name: held_out_for(subject, statements, protocol) for subject in subjects}
        print("".join(overlap_note(subject, statements) for subject in subjects), end="")  # noqa: T201
        seen = tuple(text for labelled in statements.values() for text in labelled.texts)
        classifier = named or packaged_classifier()
        tasks = _tasks(subjects, held_out, seen, classifier, options)
        conditions = [condition for subject in subjects for condition in _conditions(subject, further, options)]
        design = _design(subjects, seen, options)
        print(design.cost_sentence(tasks), end="")  # noqa: T201
        rows, costs = _measured(checkpoint, conditions, finetuned, tasks, options.placement, design)
        verdicts = verdicts_of(rows)
        texts = text_results(rows, costs)
        _log(run, checkpoint, rows, verdicts, texts, options.figures)
        log_sheets(checkpoint, subjects, tasks, options)
        print(summary(verdicts, rows))  # noqa: T201
        print(text_summary(texts), end="")  # noqa: T201
        beside = _beside(rows, Margins(options.margin, options.margin_accuracy))
        if options.trace is not None:
            _trace(checkpoint, traced, subjects, statements, tasks, options)
        if TOXICITY.name in held_out:
            auroc = held_out_auroc(classifier)
            log_classifier(run.info.run_id, auroc)
            print(f"Toxicity by {options.classifier}: AUROC {auroc} on {auroc.n} held-out labelled texts")  # noqa: T201
        judged = log_text_verdicts(run.info.run_id, subjects, texts)
        conclude(run, conclusion(options.checkpoint.model, verdicts, texts, judged, beside))


def _log(
    run: Run,
    checkpoint: Checkpoint,
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    texts: Sequence[TextResult],
    look: Look,
) -> None:
    table = evaluation_table(checkpoint, rows)
    entanglement = entanglement_table(table)
    log_tables({"verdicts.csv": verdict_table(verdicts), "evaluate.csv": table, "entanglement.csv": entanglement})
    if texts:
        log_tables({"text.csv": text_table(texts, run.info.run_id)})
        log_figures({"text": text_figure(checkpoint.model, texts)}, look, preview="text")
    log_figures(
        {
            "effects": effects_figure(checkpoint.model, verdicts),
            "entanglement": entanglement_figure(checkpoint.model, entanglement),
            "cost": cost_figure(checkpoint.model, rows),
        },
        look,
        preview="" if texts else "effects",
    )
    log_verdicts(run.info.run_id, verdicts)


def _beside(rows: Sequence[Row], margins: Margins) -> list[SideEffect]:
    """What each vector does to other dimensions and to ability, logged and printed."""
    found = side_effects(rows, margins)
    if found:
        log_tables({"side_effects.csv": side_effect_table(found)})
        print(side_effect_lines(found, margins))  # noqa: T201
    return found


def _design(subjects: Sequence[Subject], seen: Sequence[str], options: EvaluateOptions) -> TextDesign:
    judged = tuple(subject for subject in subjects if is_judged_by_text(options.by, subject))
    prose = prose_for("evaluation", seen)[:PROSE_SENTENCES]
    return TextDesign(judged, tuple(prose), options.directions, options.seed)


def is_judged_by_text(by: By, subject: Subject) -> bool:
    """By ``auto`` where what is written decided of the champion."""
    calibration = subject.champion.registered.calibration
    by_text = by == "text" or (by == "auto" and calibration is not None and bool(calibration.behaviour))
    return by_text and has_behaviour(subject.dimension.name)


def _tasks(
    subjects: Sequence[Subject],
    held_out: Mapping[str, LabelledStatements],
    seen: tuple[str, ...],
    classifier: Judges,
    options: EvaluateOptions,
) -> tuple[Task, ...]:
    texts = SuiteTexts(held_out, seen)
    details = presidio_details() if options.pii == "presidio" else personal_details
    tasks = all_tasks(
        texts,
        classifier,
        limit=options.items,
        prompts=options.prompts,
        beside=options.beside,
        details=details,
    )
    tasks = (*tasks, *harness_tasks(options.harness, options.items))
    written = [subject.dimension.name for subject in subjects if is_judged_by_text(options.by, subject)]
    tasks = (*tasks, *behaviour_tasks(written, classifier, details, options.answers))
    if options.judge is None:
        return tasks
    judge = Judge(options.judge, options.judge_model)
    chosen = [(subject.dimension, held_out[subject.dimension.name]) for subject in subjects]
    return (*tasks, *(judged_task(judge, dimension, given, options.prompts) for dimension, given in chosen))


def _subject(dimension: Dimension, model: str, options: EvaluateOptions) -> Subject:
    given = chosen(options, "checkpoint", "by", "precision", "device", "figures")
    calibrate = mlflow_run("calibrate", options.statements, model=options.checkpoint.model, **given)
    champion = vector_to_judge(model, dimension.name, calibrate=calibrate)
    return Subject(dimension, champion, strength_of(champion.registered.calibration, champion.reference))


def _conditions(subject: Subject, further: Sequence[ServedVector], options: EvaluateOptions) -> Iterator[Condition]:
    chosen = [vector for vector in further if vector.dimension == subject.dimension.name]
    controls = shuffled_vectors(subject.champion)
    yield from conditions_for(subject, shuffled=controls, chosen=chosen, random=options.random, seed=options.seed)


def _measured(
    checkpoint: Checkpoint,
    conditions: Sequence[Condition],
    finetuned: Sequence[Checkpoint],
    tasks: Sequence[Task],
    placement: Placement,
    design: TextDesign,
) -> tuple[list[Row], dict[str, float]]:
    """Every row, and what the vector of each dimension that is judged by text costs."""
    with progress_bar(1 + len(conditions) + len(finetuned) + design.total, "evaluating", "condition") as bar:
        with loaded(checkpoint, placement) as model, keeping_engines(model):
            require_writing(model)
            own = tasks_of(model, tasks)
            base = measure_tasks(model, own)
            rows = list(rows_of(Condition("base"), base, base))
            bar.update()
            for condition in conditions:
                bar.set_postfix_str(condition.name, refresh=False)
                rows += rows_of(condition, base, measure_condition(model, condition, own))
                bar.update()
            bar.set_postfix_str("random directions of equal cost", refresh=False)
            cost = ProseCost(model, design.prose)
            costs = design.perplexity_ratios(cost)
            rows += design.control_rows(cost, own, rows, bar.update)
            bar.set_postfix_str("silenced directions", refresh=False)
            rows += design.silenced_rows(model, own, rows, bar.update)
        for tuned in finetuned:
            bar.set_postfix_str(tuned.model, refresh=False)
            with loaded(tuned, placement) as model:
                measured = measure_tasks(model, tasks_of(model, tasks))
                rows += rows_of(Condition("fine-tuned", source=tuned.model), base, measured)
            bar.update()
        finish(bar)
    return rows, costs


def measure_condition(model: LanguageModel, condition: Condition, tasks: Sequence[Task]) -> tuple[Measurement, ...]:
    """What ``condition`` does, on the tasks within its scope."""
    return measure_tasks(
        model,
        [task for task in tasks if _within(condition, task)],
        offsets=condition.offsets(),
        plan=condition.plan(model),
        prefix=condition.prefix,
    )


def _within(condition: Condition, task: Task) -> bool:
    if condition.scope == "all" or task.name == "perplexity":
        return True
    return task.dimension == condition.dimension and (condition.scope == "own" or task.held_out_statements)


def _trace(
    checkpoint: Checkpoint,
    known: CheckpointSeries | None,
    subjects: Sequence[Subject],
    statements: Mapping[str, LabelledStatements],
    tasks: Sequence[Task],
    options: EvaluateOptions,
) -> None:
    """Probe accuracy against steering effect over some checkpoints, each set of weights once."""
    series = known or resolve_series(options.source or options.checkpoint.model)
    trained = trained_checkpoints(series, str(options.trace))
    audit = audited(series, trained, log_as="traced_series", parameter="trace")
    results = run_with_bar(SweepPlan(audit.traceable, statements, placement=options.placement), ResultStore())
    traced: list[TracedCheckpoint] = []
    with (
        loaded(checkpoint, options.placement) as model,
        progress_bar(len(results), "tracing", "checkpoint") as bar,
    ):
        for subject in subjects:
            name = subject.dimension.name
            task = next(task for task in tasks if task.held_out_statements and task.dimension == name)
            traced += trace_effects(
                model, subject, task, (unit for unit in results if unit.dimension == name), bar.update
            )
    changes = correlations(traced)
    log_tables({"tracing.csv": tracing_table(traced), "correlation.csv": correlation_table(changes)})
    log_figures({"tracing": tracing_figure(checkpoint.model, traced, changes)}, options.figures)
    print(correlation_summary(changes), end="\n\n")  # noqa: T201
