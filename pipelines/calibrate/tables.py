"""Tables of a calibration: ``calibration.csv``, and the lines that are printed."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipelines.calibrate.effects import Effect
from pipelines.calibrate.search import Calibrated
from pipelines.cli.columns import name_width
from pipelines.figures.text_tables import markdown_table
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table
from pipelines.tracking.conclusion import Conclusion, enumerated
from registry.checkpoints import Checkpoint
from registry.counts import counted
from registry.layers import layer_or_range, layers_text, place_text
from registry.records import RegisteredVector

COLUMNS = checkpoint_columns(
    "dimension", "layer", "split", "direction", "strength", "perplexity_ratio", "perplexity_low",
    "perplexity_high", "n_prose", "measure", "unsteered", "shift", "shift_low", "shift_high", "detectable", "n",
    "repetition_change", "repetition_low", "repetition_high", "length_ratio", "length_low", "length_high",
)  # fmt: skip


DETECTABLE = "detectable: the smallest shift that so many statements or answers show in 80 % of samples"


@dataclass(frozen=True)
class CalibratedDimension:
    """One dimension's calibration, and the version that carries it."""

    checkpoint: Checkpoint
    dimension: str
    result: Calibrated
    vector: RegisteredVector
    decision: str
    """Why the vector is champion, or is not."""


def calibration_table(calibrated: Sequence[CalibratedDimension]) -> pd.DataFrame:
    """``calibration.csv``: every effect that was measured, on which split, of which kind of direction."""
    rows = [(dimension.checkpoint, row) for dimension in calibrated for row in _rows(dimension)]
    return checkpoint_table(rows, COLUMNS)


def outcome_table(calibrated: Sequence[CalibratedDimension]) -> pd.DataFrame:
    """``calibrated.csv``: a row per dimension, what the chosen vector does on the test half and whether it works."""
    columns = ("dimension", "vector", "works", "strength", "measure", "unsteered", "shift", "low", "high", "n")
    rows = [
        (
            *(dimension.dimension, dimension.vector.uri, dimension.result.works, dimension.result.tested.strength),
            *(dimension.result.tested.measure, dimension.result.tested.unsteered, dimension.result.tested.shift.value),
            *(dimension.result.tested.shift.low, dimension.result.tested.shift.high, dimension.result.tested.shift.n),
        )
        for dimension in calibrated
    ]
    return pd.DataFrame(rows, columns=list(columns))


def _rows(calibrated: CalibratedDimension) -> list[tuple[object, ...]]:
    result, chosen = calibrated.result, calibrated.result.candidate
    elsewhere = [effect for effect in result.searched if (effect.label, effect.layers) != (chosen.label, chosen.layers)]
    running = () if result.champion is None else (result.champion,)
    tested = (result.tested, *result.others, *running, *result.random)
    return [
        *(_row(calibrated, effect, "validation") for effect in (*elsewhere, *result.curve)),
        *(_row(calibrated, effect, "test") for effect in dict.fromkeys(tested)),
    ]


def _row(calibrated: CalibratedDimension, effect: Effect, split: str) -> tuple[object, ...]:
    shift, perplexity = effect.shift, effect.perplexity
    where = (calibrated.dimension, layer_or_range(effect.layers), split, effect.label)
    cost = (perplexity.value, perplexity.low, perplexity.high, perplexity.n)
    moved = (effect.measure, effect.unsteered, shift.value, shift.low, shift.high, shift.detectable, shift.n)
    form = tuple(effect.form.as_fields().values()) if effect.form else (None,) * 6
    return (*where, effect.strength, *cost, *moved, *form)


def summary(calibrated: Sequence[CalibratedDimension]) -> str:
    """The calibrations, one line per dimension; shift and perplexity are those on the test half."""
    width = max(12, *(len(dimension.result.candidate.label) for dimension in calibrated))
    name = name_width(dimension.dimension for dimension in calibrated)
    header = (
        f"{'dimension':<{name}} {'layer':>5} {'direction':<{width}} {'safe range':>12} {'strength':>8}  "
        f"{'shift [95 %]':<24} {'n':>4} {'detectable':>10} {'random':>7}  {'perplexity [95 %]':<22} {'works':<5} vector"
    )
    others = [
        f"  {dimension.dimension:<12} {effect.label}, {place_text(effect.layers)}, strength {effect.strength:g}, "
        f"{effect.describe()} at {effect.perplexity} times the perplexity"
        for dimension in calibrated
        for effect in dimension.result.others
    ]
    lines = ["", header, *(_line(dimension, name, width) for dimension in calibrated), DETECTABLE]
    if others:
        lines += ["", "Not chosen on validation; each at its own best there, on the same test half:", *others]
    lines += ["", *(f"{dimension.dimension}: {dimension.decision}" for dimension in calibrated)]
    return "\n".join(lines)


def conclusion(model: str, calibrated: Sequence[CalibratedDimension], *, serve: str, evaluate: str) -> Conclusion:
    """Which dimensions steering moves, at what cost; ``serve`` comes next, or ``evaluate`` where nothing is served."""
    works = [dimension.dimension for dimension in calibrated if dimension.result.works]
    promoted = any(dimension.result.is_promoted for dimension in calibrated)
    return Conclusion(
        verdict=(
            f"Steering works in {len(works)} of {counted(len(calibrated), 'dimension')} of {model}"
            f"{enumerated(works)}, on the test half of calibration."
        ),
        header=("dimension", "works", "strength", *EFFECT_HEADER, "layer", "direction"),
        rows=tuple(_conclusion_row(dimension) for dimension in calibrated),
        note=(
            "Effect: on preference how much log p(trustworthy) − log p(untrustworthy) rises, in nats; on answers how "
            "far the share of untrustworthy ones falls. Works: the whole interval on test lies above zero and above "
            "every random direction, at little perplexity; where answers decide, in answers that are as long and "
            "repeat themselves no more."
        ),
        vectors=tuple(dimension.vector for dimension in calibrated),
        next=serve if promoted else evaluate,
    )


def _conclusion_row(calibrated: CalibratedDimension) -> tuple[str, ...]:
    result = calibrated.result
    works = "yes" if result.works else "no"
    return (
        *(calibrated.dimension, works, f"{result.tested.strength:g}", *effect_cells(result)),
        *(layers_text(result.layers), result.candidate.label),
    )


EFFECT_HEADER = (
    *("effect on test [95 %]", "detectable in 80 %", "largest of random directions"),
    *("perplexity [95 %]", "safe range"),
)


def effect_cells(result: Calibrated) -> tuple[str, ...]:
    """Effect, control and cost of the chosen strength on the test half, and the safe range."""
    tested = result.tested
    return (
        f"{tested.shift}{'' if tested.behaviour else ' nats'} (n = {tested.shift.n})",
        f"{tested.shift.detectable:.3f}",
        f"{result.largest_random:z.3f}",
        f"{tested.perplexity}x",
        f"{result.low:g} to {result.high:g}",
    )


def verdict_of_version(result: Calibrated, decision: str) -> str:
    """Markdown for a version's page: whether to promote it, and the numbers that decide."""
    says = "**Works**" if result.works else "**Does not work**"
    table = markdown_table(("strength", *EFFECT_HEADER), [(f"{result.tested.strength:g}", *effect_cells(result))])
    return f"{says} on held-out {result.tested.measure}; {decision}.\n\n{table}"


def _line(calibrated: CalibratedDimension, name: int, width: int) -> str:
    result, tested = calibrated.result, calibrated.result.tested
    safe = f"{result.low:g} to {result.high:g}"
    return (
        f"{calibrated.dimension:<{name}} {layers_text(result.layers):>5} {result.candidate.label:<{width}} {safe:>12} "
        f"{tested.strength:>8g}  {tested.shift!s:<24} {tested.shift.n:>4} {tested.shift.detectable:>10.3f} "
        f"{result.largest_random:>z7.3f}  "
        f"{tested.perplexity!s:<22} {'yes' if result.works else 'no':<5} {calibrated.vector.uri}"
    )
