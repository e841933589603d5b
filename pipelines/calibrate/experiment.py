"""Calibration experiment: from a user's options to calibrated vectors, champions, curves and figures."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from pipelines.behaviours.behaviour import Behaviour
from pipelines.behaviours.packaged import behaviour_of
from pipelines.calibrate.candidates import (
    Candidate,
    fitted_candidates,
    lowest_layers,
    registered_candidate,
    registered_candidates,
    require_candidates,
    require_comparable,
    require_of_model,
    steered_layers,
    with_champion,
)
from pipelines.calibrate.effects import Texts
from pipelines.calibrate.equal_cost import BackgroundStates
from pipelines.calibrate.figures import calibration_curve
from pipelines.calibrate.joint import JointMember, measure_joint
from pipelines.calibrate.options import By, CalibrateOptions
from pipelines.calibrate.search import Calibrated, Champion, calibrate, steps_of
from pipelines.calibrate.splits import measured_halves, prose_halves
from pipelines.calibrate.tables import CalibratedDimension, calibration_table, conclusion, outcome_table, summary
from pipelines.calibrate.tracking import CalibrationLog
from pipelines.cli.pasting import chosen, make_serve, mlflow_run
from pipelines.cli.progress import finish, progress_bar
from pipelines.experiment import (
    inspected_statements,
    known_layers,
    known_series,
    one_checkpoint,
    require_selectable,
    require_sources,
    series_name,
)
from pipelines.figures.style import Figure
from pipelines.model_io.answer_engines import keeping_engines
from pipelines.model_io.continuations import require_writing
from pipelines.model_io.reading import Reading
from pipelines.probe.plan import SweepPlan
from pipelines.probe.result import ResultStore, UnitResult
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.halves import require_halves
from pipelines.sweep.logged import run_with_bar
from pipelines.sweep.protocol import FittingProtocol
from pipelines.sweep.run import load_at
from pipelines.tracking.artifacts import log_figures, log_tables
from pipelines.tracking.champions import named_vectors, running_champion
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.runs import entry_point_run
from pipelines.vectors.answer_probes import AnswerProbes
from pipelines.vectors.methods import choose_methods
from pipelines.vectors.places import Place, layers_of, names_places, read_places, require_trainable, with_directions
from registry.errors import InvalidInput, Mismatch
from registry.records import RegisteredVector
from serving.model.language_model import LanguageModel
from serving.steering.bank import ServedVector


@dataclass(frozen=True, eq=False)
class CalibrationSubject:
    """One dimension with all that contends in it."""

    statements: LabelledStatements
    unit: UnitResult | None
    """That the fitted directions are of."""
    candidates: tuple[Candidate, ...]
    champion: Champion | None
    behaviour: Behaviour | None = None
    """Whose answers decide, where text does."""
    note: str = ""
    """Why the running champion does not contend, where it does not."""


def run_calibration(options: CalibrateOptions) -> None:
    """Calibrate every dimension, make what works champion, and print the effects of steering."""
    methods = choose_methods(options.methods)
    with entry_point_run(f"calibrate {options.checkpoint.model}", options.params()) as run, ExitStack() as kept:
        # Validate cheap inputs before training or downloading a checkpoint.
        given, placement = options.checkpoint.model, options.placement.resolved()
        require_selectable(given, options.checkpoint.checkpoint, parameter="checkpoint")
        series = known_series(given)
        name = series_name(given, series)
        n_layers = known_layers(series, options.checkpoint.checkpoint)
        places = places_to_try(options.layers, n_layers, name)
        require_trainable(places, methods)
        require_sources(options.statements)
        names = [dimension.name for dimension in options.statements.chosen]
        require_of_model(options.vectors, name, names, given=given)
        vectors = named_vectors(options.vectors)
        checkpoint = one_checkpoint(options.checkpoint, series)
        statements = inspected_statements(options.statements)
        require_halves(statements)
        plan = SweepPlan((checkpoint,), statements, options.protocol, placement=placement)
        units = _probed(plan, layers_of(places)) if methods else {}
        model = load_at(checkpoint, placement)
        _say_what_is_left(model, options.by)
        kept.enter_context(keeping_engines(model))
        subjects = []
        for name, labelled in statements.items():
            offered = [*registered_candidates(model, vectors, labelled)]
            if name in units:
                able, left_out = with_directions(places, units[name])
                print(f"{left_out}\n" if left_out else "", end="")  # noqa: T201
                offered += fitted_candidates(model, units[name], labelled, able, methods, options.protocol)
            subjects.append(_subject(model, labelled, units.get(name), offered, options.by))
        require_candidates({subject.statements.dimension: subject.candidates for subject in subjects})
        log = CalibrationLog(run)
        seen = {text for subject in subjects for text in subject.statements.texts}
        probes = AnswerProbes(model)
        measured = list(_calibrated(model, subjects, seen, options.protocol, log, probes))
        calibrated = [dimension for dimension, _ in measured]
        log_tables({"calibration.csv": calibration_table(calibrated), "calibrated.csv": outcome_table(calibrated)})
        concluded = _concluded(options, calibrated)
        shown = next((each for each in calibrated if each.result.works), calibrated[0])
        figures = _figures(checkpoint.model, calibrated)
        log_figures(figures, options.figures, preview=f"{shown.dimension}_calibration")
        notes = [*(subject.note for subject in subjects if subject.note), *probes.notes]
        print("\n".join([summary(calibrated), *notes]))  # noqa: T201
        joint = measure_joint(model, [member for _, member in measured if member is not None], seen)
        if joint is not None:
            log.limit(joint)
            print(f"\n{joint.describe()}")  # noqa: T201
        conclude(run, concluded)


def _concluded(options: CalibrateOptions, calibrated: Sequence[CalibratedDimension]) -> Conclusion:
    model, placed = options.checkpoint.model, chosen(options, "checkpoint", "precision", "device")
    further = placed | chosen(options, "by", "figures")
    evaluate = mlflow_run("evaluate", options.statements, model=model, **further)
    return conclusion(model, calibrated, serve=make_serve(model, **placed), evaluate=evaluate)


def _figures(model: str, calibrated: Sequence[CalibratedDimension]) -> dict[str, Figure]:
    return {
        f"{each.dimension}_calibration": calibration_curve(f"{model}: {each.dimension}", each.result)
        for each in calibrated
    }


def _say_what_is_left(model: LanguageModel, by: By) -> None:
    """Say before calibrating where a model can be neither served nor evaluated. Raises ``Mismatch`` by text."""
    try:
        require_writing(model)
    except Mismatch as error:
        if by == "text":
            raise
        print(f"{error}\n")  # noqa: T201


def is_by_text(by: By, running: ServedVector | None) -> bool:
    """Whether what the model writes decides; by ``auto`` where it decided of the running champion.

    Raises ``InvalidInput`` where likelihoods would decide of a champion that is calibrated by text: they tell less.
    """
    calibration = running.registered.calibration if running is not None else None
    if running is None or calibration is None or not calibration.behaviour:
        return by == "text"
    if by == "statements":
        raise InvalidInput(
            f"{running.reference} is champion by {calibration.behaviour} that the model writes, which its statements "
            "cannot decide: give by=text"
        )
    return True


def _subject(
    model: LanguageModel,
    statements: LabelledStatements,
    unit: UnitResult | None,
    offered: Sequence[Candidate],
    by: By,
) -> CalibrationSubject:
    running = running_champion(model.checkpoint.model, statements.dimension)
    behaviour = behaviour_of(statements.dimension, model) if is_by_text(by, running) else None
    if not offered or running is None:
        return CalibrationSubject(statements, unit, tuple(offered), None, behaviour)
    try:
        require_comparable(model, running, statements)
    except Mismatch as error:
        note = f"The running champion did not contend: {error}"
        return CalibrationSubject(statements, unit, tuple(offered), None, behaviour, note)
    candidates, candidate = with_champion(offered, registered_candidate(running))
    calibration = running.registered.calibration
    champion = Champion(candidate, calibration.recommended if calibration else 0.0)
    return CalibrationSubject(statements, unit, tuple(candidates), champion, behaviour)


def _calibrated(
    model: LanguageModel,
    subjects: Sequence[CalibrationSubject],
    seen: Collection[str],
    protocol: FittingProtocol,
    log: CalibrationLog,
    probes: AnswerProbes,
) -> Iterator[tuple[CalibratedDimension, JointMember | None]]:
    """Each dimension, and what it puts into the joint calibration: its champion, where that has a strength."""
    total = sum(steps_of(subject.candidates) for subject in subjects)
    every = [candidate for subject in subjects for candidate in subject.candidates]
    prose, background = prose_halves(model, seen, lowest_layers(every)), BackgroundStates(model, steered_layers(every))
    with progress_bar(total, "steering", "step") as bar:
        for subject in subjects:
            statements = subject.statements
            bar.set_postfix_str(statements.dimension, refresh=False)
            layers = lowest_layers(subject.candidates)
            validation, test = measured_halves(model, statements, prose, protocol, subject.behaviour, layers)
            result = calibrate(
                *(model, subject.candidates, validation, test),
                background=background,
                champion=subject.champion,
                on_step=bar.update,
            )
            fitted = result.candidate.fitted if result.candidate.registered is None else None
            probe = probes.of(fitted) if fitted is not None else None
            result, vector, decision = log.add(result, statements, subject.unit, probe)
            member = _member(result, vector, subject.champion, validation, test)
            yield CalibratedDimension(model.checkpoint, statements.dimension, result, vector, decision), member
        finish(bar)


def _member(
    result: Calibrated, vector: RegisteredVector, running: Champion | None, validation: Texts, test: Texts
) -> JointMember | None:
    if result.is_promoted:
        return JointMember(vector, result.candidate, result.recommended, validation, test)
    if running is None or running.candidate.registered is None or not running.strength:
        return None
    # The running champion may be what was calibrated, and its new calibration may recommend nothing.
    if running.candidate.registered.uri == vector.uri:
        return None
    return JointMember(running.candidate.registered, running.candidate, running.strength, validation, test)


def places_to_try(spec: str, n: int, model: str) -> tuple[Place, ...]:
    """The places that ``spec`` names, of ``n``; ``auto`` spreads five over the middle half, where steering works."""
    if spec == "auto":
        layers = sorted({round(layer) for layer in np.linspace(n / 4, 3 * n / 4, 5)} & set(range(n)))
        return tuple((layer,) for layer in layers)
    if not names_places(spec):
        raise InvalidInput(
            f"layers {spec!r} is neither 'auto' nor numbers separated by commas, such as 8,12,16, or ranges such as "
            "10-14"
        )
    return read_places(spec, n, model)


def _probed(plan: SweepPlan, layers: tuple[int, ...]) -> dict[str, UnitResult]:
    """The directions of ``layers``: of the sweep over all layers where one was made, or of those layers alone."""
    store, (checkpoint,) = ResultStore(), plan.checkpoints
    if not all(store.path(plan.digest(checkpoint, name)).is_file() for name in plan.statements):
        plan = replace(plan, reading=Reading(",".join(map(str, layers))))
    return {unit.dimension: unit for unit in run_with_bar(plan, store)}
