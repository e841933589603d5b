"""The calibration experiment, from a user's options to calibrated champions, curves and figures."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from transformers import AutoConfig

from pipelines.evaluation.calibration import CalibratedLayer, Effect, Texts, calibrate, settings_to_measure
from pipelines.figures.calibration import calibration_curve
from pipelines.probing import inspected_statements, resolve_series
from pipelines.progress import progress_bar
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.packaged import held_out_sentences
from pipelines.statements.splits import group_folds
from pipelines.sweep.folds import split_statements
from pipelines.sweep.logged import run_with_bar
from pipelines.sweep.results import ResultStore
from pipelines.sweep.run import SweepPlan
from pipelines.sweep.settings import ProbeSettings
from pipelines.sweep.unit import UnitResult
from pipelines.tracking.calibration import CalibrationLog
from pipelines.tracking.probing import log_figures, log_tables
from pipelines.tracking.runs import entry_point_run
from registry.checkpoints import Checkpoint
from registry.dimensions import Dimension
from registry.errors import InvalidInput
from registry.store import RegisteredVector
from serving.model.language_model import LanguageModel, load
from serving.model.weights import locate

PROSE_SENTENCES = 60
"""In each half: enough that a perplexity ratio is known to a percent, since both models read the same."""

COLUMNS = (
    "model", "step", "dimension", "layer", "split", "direction", "strength", "perplexity_ratio", "shift", "shift_low",
    "shift_high", "n",
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
    settings: ProbeSettings


@dataclass(frozen=True)
class Calibrated:
    """One dimension's calibration, and the version that carries it."""

    result: UnitResult
    found: CalibratedLayer
    vector: RegisteredVector


def run_calibration(options: CalibrateOptions, params: Mapping[str, object]) -> None:
    """Calibrate every dimension, make its vector champion, and print what steering does."""
    with entry_point_run(f"calibrate {options.model}", params) as run:
        checkpoint = _one_checkpoint(options)
        statements = inspected_statements(options.dimensions, options.data, limit=options.limit)
        layers = layers_to_try(options.layers, checkpoint)
        results = _probed(checkpoint, statements, options.settings, layers)
        log = CalibrationLog(run)
        model = load(checkpoint, precision=options.settings.precision, device=options.settings.device)
        calibrated = []
        with progress_bar(len(results) * settings_to_measure(len(layers)), "steering", "setting") as bar:
            for result in results:
                bar.set_postfix_str(result.dimension, refresh=False)
                validation, test = held_out_halves(model, statements[result.dimension], options.settings)
                directions = {layer: result.direction(layer).mass_mean for layer in layers}
                found = calibrate(model, directions, validation, test, on_setting=bar.update)
                calibrated.append(Calibrated(result, found, log.add(result, found)))
        log_tables({"calibration.csv": calibration_table(calibrated)})
        log_figures(
            {
                f"{one.result.dimension}_calibration": calibration_curve(
                    f"{checkpoint.model}: {one.result.dimension}", one.found
                )
                for one in calibrated
            }
        )
        print(summary(calibrated))  # noqa: T201


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
    """Validation and test: halves, by group, of the statements that registered directions are not fitted on."""
    held_out = np.flatnonzero(split_statements(statements, settings).folds[0] == 0)
    halves = group_folds(statements.groups[held_out], statements.labels[held_out], 2, seed=0)
    prose = held_out_sentences()
    validation, test = (
        Texts.measured(
            model,
            [statements.texts[row] for row in held_out[halves == half]],
            statements.labels[held_out[halves == half]],
            statements.groups[held_out[halves == half]],
            prose[half * PROSE_SENTENCES : (half + 1) * PROSE_SENTENCES],
        )
        for half in range(2)
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
) -> list[UnitResult]:
    """The directions of ``layers``: of the sweep over all layers where one was made, or of those layers alone."""
    store, plan = ResultStore(), SweepPlan((checkpoint,), statements, settings)
    if not all(store.path(plan.digest(checkpoint, name)).is_file() for name in statements):
        plan = replace(plan, settings=replace(settings, layers=",".join(map(str, layers))))
    return run_with_bar(plan, store)


def calibration_table(calibrated: list[Calibrated]) -> pd.DataFrame:
    """``calibration.csv``: every effect that was measured, on which split, of which kind of direction."""
    rows = []
    for one in calibrated:
        found = one.found
        elsewhere = [effect for effect in found.searched if effect.layer != found.layer]
        rows += [_row(one, effect, "validation", "mass-mean") for effect in (*elsewhere, *found.curve)]
        rows.append(_row(one, found.tested, "test", "mass-mean"))
        rows += [_row(one, effect, "test", "random") for effect in found.random]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(one: Calibrated, effect: Effect, split: str, direction: str) -> tuple[object, ...]:
    checkpoint, shift = one.result.checkpoint, effect.shift
    where = (checkpoint.model, checkpoint.step, one.result.dimension, effect.layer, split, direction)
    return (*where, effect.strength, effect.perplexity_ratio, shift.value, shift.low, shift.high, shift.n)


def summary(calibrated: list[Calibrated]) -> str:
    """What was found, one line a dimension; shift and perplexity are those on test statements."""
    lines = [
        f"{'dimension':<12} {'layer':>5} {'safe range':>12} {'strength':>8}  {'shift, nats [95 %]':<24} "
        f"{'random':>7} {'perplexity':>10}  {'works':<5} vector"
    ]
    for one in calibrated:
        found, tested = one.found, one.found.tested
        works = found.recommended > 0 and tested.works and found.beats_random
        lines.append(
            f"{one.result.dimension:<12} {found.layer:>5} {f'{found.low:g} to {found.high:g}':>12} "
            f"{tested.strength:>8g}  {tested.shift!s:<24} {max(one.shift.value for one in found.random):>7.3f} "
            f"{tested.perplexity_ratio:>9.3f}x  {'yes' if works else 'no':<5} {one.vector.uri}"
        )
    return "\n".join(["", *lines, "", "Serve them: make serve"])
