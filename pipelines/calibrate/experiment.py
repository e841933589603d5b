"""The calibration experiment, from a user's options to calibrated champions, curves and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from transformers import AutoConfig

from pipelines.calibrate.candidates import (
    Contender,
    fitted_contenders,
    of_each_dimension,
    registered_contenders,
    require_of_model,
)
from pipelines.calibrate.figures import calibration_curve
from pipelines.calibrate.search import Calibrated, Effect, Texts, calibrate, settings_to_measure
from pipelines.calibrate.splits import calibration_halves
from pipelines.calibrate.tracking import CalibrationLog
from pipelines.cli.progress import progress_bar
from pipelines.experiment import inspected_statements, resolve_series
from pipelines.probe.plan import SweepPlan
from pipelines.probe.result import ResultStore, UnitResult
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.packaged import held_out_sentences
from pipelines.sweep.logged import run_with_bar
from pipelines.sweep.protocol import ProbeSettings
from pipelines.tracking.artifacts import log_figures, log_tables
from pipelines.tracking.champions import named_vectors
from pipelines.tracking.runs import entry_point_run
from registry.checkpoints import Checkpoint
from registry.dimensions import Dimension
from registry.errors import InvalidInput
from registry.store import RegisteredVector
from serving.model.language_model import LanguageModel, load
from serving.model.weights import locate

PROSE_SENTENCES = 100
"""In each half: a perplexity ratio is known to a percent or two, since both models read the same."""

COLUMNS = (
    "model", "step", "dimension", "layer", "split", "direction", "strength", "perplexity_ratio", "perplexity_low",
    "perplexity_high", "n_prose", "shift", "shift_low", "shift_high", "n",
)  # fmt: skip


@dataclass(frozen=True)
class CalibrateOptions:
    """What a user may choose; see ``python -m pipelines.calibrate --help``."""

    model: str
    checkpoint: str
    dimensions: tuple[Dimension, ...]
    data: str
    limit: int
    layers: str
    methods: tuple[str, ...]
    vectors: tuple[str, ...]
    settings: ProbeSettings


@dataclass(frozen=True)
class CalibratedDimension:
    """One dimension's calibration, and the version that carries it."""

    checkpoint: Checkpoint
    dimension: str
    found: Calibrated
    vector: RegisteredVector


def run_calibration(options: CalibrateOptions, params: Mapping[str, object]) -> None:
    """Calibrate every dimension, make its vector champion, and print what steering does."""
    with entry_point_run(f"calibrate {options.model}", params) as run:
        checkpoint = _one_checkpoint(options)
        require_of_model(options.vectors, checkpoint.model, [one.name for one in options.dimensions])
        vectors = named_vectors(options.vectors)
        statements = inspected_statements(options.dimensions, options.data, limit=options.limit)
        layers = layers_to_try(options.layers, checkpoint)
        results = _probed(checkpoint, statements, options.settings, layers) if options.methods else {}
        model = load(checkpoint, precision=options.settings.precision, device=options.settings.device)
        contenders = {
            name: [
                *(fitted_contenders(model, results[name], one, layers, options.methods, options.settings)
                  if name in results else ()),
                *registered_contenders(model, vectors, one),
            ]
            for name, one in statements.items()
        }  # fmt: skip
        of_each_dimension(contenders)
        calibrated = _calibrated(model, statements, contenders, results, options.settings, CalibrationLog(run))
        log_tables({"calibration.csv": calibration_table(calibrated)})
        log_figures(
            {
                f"{one.dimension}_calibration": calibration_curve(f"{checkpoint.model}: {one.dimension}", one.found)
                for one in calibrated
            }
        )
        print(summary(calibrated))  # noqa: T201


def _calibrated(
    model: LanguageModel,
    statements: Mapping[str, LabelledStatements],
    contenders: Mapping[str, Sequence[Contender]],
    results: Mapping[str, UnitResult],
    settings: ProbeSettings,
    log: CalibrationLog,
) -> list[CalibratedDimension]:
    candidates = {name: [one.candidate for one in found] for name, found in contenders.items()}
    calibrated = []
    with progress_bar(sum(map(settings_to_measure, candidates.values())), "steering", "setting") as bar:
        for name, one in statements.items():
            bar.set_postfix_str(name, refresh=False)
            validation, test = held_out_halves(model, one, settings)
            found = calibrate(model, candidates[name], validation, test, on_setting=bar.update)
            contender = next(one for one in contenders[name] if one.candidate is found.candidate)
            vector = log.add(found, contender, one, results.get(name))
            calibrated.append(CalibratedDimension(model.checkpoint, name, found, vector))
    return calibrated


def layers_to_try(spec: str, checkpoint: Checkpoint) -> tuple[int, ...]:
    """The layers that ``spec`` names; ``auto`` spreads five over the middle half, where steering is known to work."""
    n = int(AutoConfig.from_pretrained(locate(checkpoint).directory).num_hidden_layers)
    if spec == "auto":
        return tuple(sorted({round(place) for place in np.linspace(n / 4, 3 * n / 4, 5)} & set(range(n))))
    if not all(part.strip().isdigit() for part in spec.split(",")):
        raise InvalidInput(f"layers {spec!r} is neither 'auto' nor numbers separated by commas, such as 8,12,16")
    return ProbeSettings(layers=spec).chosen_layers(n, checkpoint.model)


def held_out_halves(
    model: LanguageModel, statements: LabelledStatements, settings: ProbeSettings
) -> tuple[Texts, Texts]:
    """Validation and test: halves of the statements that registered directions are not fitted on."""
    prose = held_out_sentences()
    validation, test = (
        Texts.measured(
            model, one.texts, one.labels, one.groups, prose[half * PROSE_SENTENCES : (half + 1) * PROSE_SENTENCES]
        )
        for half, one in enumerate(calibration_halves(statements, settings))
    )
    return validation, test


def _one_checkpoint(options: CalibrateOptions) -> Checkpoint:
    chosen = [one for one in resolve_series(options.model).select(options.checkpoint) if not one.is_random_init]
    if len(chosen) != 1:
        raise InvalidInput(
            f"checkpoint {options.checkpoint!r} selects {len(chosen)} trained checkpoints of {options.model}; "
            "calibration is of one, such as last"
        )
    return chosen[0]


def _probed(
    checkpoint: Checkpoint,
    statements: Mapping[str, LabelledStatements],
    settings: ProbeSettings,
    layers: tuple[int, ...],
) -> dict[str, UnitResult]:
    """The directions of ``layers``: of the sweep over all layers where one was made, or of those layers alone."""
    store, plan = ResultStore(), SweepPlan((checkpoint,), statements, settings)
    if not all(store.path(plan.digest(checkpoint, name)).is_file() for name in statements):
        plan = replace(plan, settings=replace(settings, layers=",".join(map(str, layers))))
    return {one.dimension: one for one in run_with_bar(plan, store)}


def calibration_table(calibrated: Sequence[CalibratedDimension]) -> pd.DataFrame:
    """``calibration.csv``: every effect that was measured, on which split, of which kind of direction."""
    rows = []
    for one in calibrated:
        found, chosen = one.found, one.found.candidate
        elsewhere = [each for each in found.searched if (each.label, each.layer) != (chosen.label, chosen.layer)]
        rows += [_row(one, effect, "validation") for effect in (*elsewhere, *found.curve)]
        rows += [_row(one, effect, "test") for effect in (found.tested, *found.others, *found.random)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(one: CalibratedDimension, effect: Effect, split: str) -> tuple[object, ...]:
    shift, perplexity = effect.shift, effect.perplexity
    where = (one.checkpoint.model, one.checkpoint.step, one.dimension, effect.layer, split, effect.label)
    cost = (perplexity.value, perplexity.low, perplexity.high, perplexity.n)
    return (*where, effect.strength, *cost, shift.value, shift.low, shift.high, shift.n)


def summary(calibrated: Sequence[CalibratedDimension]) -> str:
    """What was found, one line a dimension; shift and perplexity are those on the test half."""
    lines = [
        f"{'dimension':<12} {'layer':>5} {'direction':<12} {'safe range':>12} {'strength':>8}  "
        f"{'shift, nats [95 %]':<24} {'n':>4} {'random':>7}  {'perplexity [95 %]':<22} {'works':<5} vector"
    ]
    lines += [_line(one) for one in calibrated]
    others = [
        f"  {one.dimension:<12} {effect.label}, layer {effect.layer}, strength {effect.strength:g}: {effect.shift} "
        f"nats at {effect.perplexity} times the perplexity"
        for one in calibrated
        for effect in one.found.others
    ]
    if others:
        lines += ["", "Not chosen on validation; each at its own best there, on the same test statements:", *others]
    return "\n".join(["", *lines, "", "Serve them: make serve"])


def _line(one: CalibratedDimension) -> str:
    found, tested = one.found, one.found.tested
    safe, random = f"{found.low:g} to {found.high:g}", max(each.shift.value for each in found.random)
    return (
        f"{one.dimension:<12} {found.layer:>5} {found.candidate.label:<12} {safe:>12} {tested.strength:>8g}  "
        f"{tested.shift!s:<24} {tested.shift.n:>4} {random:>7.3f}  {tested.perplexity!s:<22} "
        f"{'yes' if found.works else 'no':<5} {one.vector.uri}"
    )
