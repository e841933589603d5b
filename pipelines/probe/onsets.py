"""Onsets of a dimension: the steps from which it can be read, is used by the model itself, and can be steered.

Each is wrong in at most 5 % of dimensions over all steps (Bonferroni); layers add nothing to it, since each step has
one layer, chosen on statements other than those it is judged on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pipelines.cli.columns import name_width
from pipelines.estimators.estimate import CONFIDENCE, Estimate, prediction_bound
from pipelines.estimators.onsets import Onset, not_shown_to_last, onset_of, surely_above
from pipelines.probe.controls import Floors
from pipelines.probe.options import READABLE, STEERABLE, USED
from pipelines.probe.preferences import STRENGTH, PreferenceResult, SteeredPreference
from pipelines.probe.selection import Selection
from pipelines.sweep.unit import points_along
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table
from registry.counts import counted

CHANCE = Estimate(0.5, 0.5, 0.5, 0)
ZERO = Estimate(0.0, 0.0, 0.0, 0)
RULES = {
    READABLE: "accuracy of the probe above random initialisation and the n-gram floor, intervals may overlap",
    USED: "preference of the checkpoint as it stands above chance and random initialisation",
    STEERABLE: f"shift by its own vector, strength {STRENGTH:g}, above zero and one more random direction of its norm",
}

ONSET_COLUMNS = ("model", "dimension", "onset", "step", "lasts", "lost_step", "checkpoints", "error_rate", "rule")
PREFERENCE_COLUMNS = checkpoint_columns(
    "dimension", "preference", "preference_low", "preference_high", "n_preference",
    "layer", "strength", "shift", "shift_low", "shift_high", "n", "random_mean", "random_max", "random_directions",
)  # fmt: skip


@dataclass(frozen=True)
class DimensionOnset:
    """The onset of one kind of one dimension."""

    dimension: str
    kind: str
    onset: Onset
    checkpoints: int
    """Steps looked at: each set of weights once, of the first stage."""


@dataclass(frozen=True)
class Judged:
    """One step of a curve: its estimate, and whether the rule of an onset holds there."""

    step: int
    estimate: Estimate | None
    holds: bool


def onsets_of(
    kinds: Sequence[str],
    selection: Selection,
    floors: Mapping[str, Floors],
    preferences: Sequence[PreferenceResult],
) -> tuple[DimensionOnset, ...]:
    """The onsets asked for, of every dimension in turn."""
    onsets = []
    for dimension, floor in floors.items():
        for kind in kinds:
            if kind == READABLE:
                judged = _readable(selection, dimension, floor.ngram[None])
            else:
                own = [result for result in preferences if result.dimension == dimension]
                judged = _used(own) if kind == USED else _steerable(own)
            onsets.append(judged_onset(dimension, kind, judged))
    return tuple(onsets)


def judged_onset(dimension: str, kind: str, judged: Sequence[Judged]) -> DimensionOnset:
    """The first step at which the rule holds, and whether it does from then on."""
    onset = onset_of(
        [each.step for each in judged], [each.estimate for each in judged], [each.holds for each in judged]
    )
    return DimensionOnset(dimension, kind, onset, len(judged))


def _readable(selection: Selection, dimension: str, floor: Estimate) -> list[Judged]:
    probes = {probe.result.checkpoint: probe.accuracy for probe in selection.layers_of(dimension)}
    along = points_along([probe.result for probe in selection.layers_of(dimension)])
    controls = (selection.initial[dimension].accuracy, floor)
    estimates = [probes[result.checkpoint] for result in along]
    return [
        Judged(
            result.checkpoint.step, estimate, all(surely_above(estimate, control, len(along)) for control in controls)
        )
        for result, estimate in zip(along, estimates, strict=True)
    ]


def _used(results: Sequence[PreferenceResult]) -> list[Judged]:
    initial = next(result for result in results if result.checkpoint.is_random_init)
    along = points_along([result for result in results if not result.checkpoint.is_random_init])
    return [
        Judged(result.checkpoint.step, result.unsteered, is_used(result.unsteered, initial.unsteered, len(along)))
        for result in along
    ]


def is_used(preference: Estimate, initial: Estimate, comparisons: int) -> bool:
    """Random weights prefer shorter statements by themselves, so chance alone is too little to lie above."""
    return all(surely_above(preference, control, comparisons) for control in (CHANCE, initial))


def _steerable(results: Sequence[PreferenceResult]) -> list[Judged]:
    along = points_along([result for result in results if not result.checkpoint.is_random_init])
    return [
        Judged(result.checkpoint.step, steered.shift, is_steerable(steered, len(along)))
        if (steered := result.steered)
        else Judged(result.checkpoint.step, None, False)
        for result in along
    ]


def is_steerable(steered: SteeredPreference, comparisons: int) -> bool:
    """The effect of a small offset is linear in it, so that those of random directions are normal."""
    bound = prediction_bound(steered.random, (1 - CONFIDENCE) / comparisons)
    controls = (ZERO, Estimate(bound, bound, bound, len(steered.random)))
    return all(surely_above(steered.shift, control, comparisons) for control in controls)


def onset_table(model: str, onsets: Sequence[DimensionOnset]) -> pd.DataFrame:
    """``onsets.csv``: ``step`` is empty where there is none."""
    rows = [
        (
            *(model, found.dimension, found.kind, found.onset.step, found.onset.lasts, found.onset.lost),
            *(found.checkpoints, round(1 - CONFIDENCE, 2), RULES[found.kind]),
        )
        for found in onsets
    ]
    return pd.DataFrame(rows, columns=list(ONSET_COLUMNS)).astype({"step": "Int64", "lost_step": "Int64"})


def preference_table(results: Sequence[PreferenceResult]) -> pd.DataFrame:
    """``preferences.csv``: what ``used`` and ``steerable`` are decided on, random initialisation included."""
    return checkpoint_table(((result.checkpoint, _preference_cells(result)) for result in results), PREFERENCE_COLUMNS)


def _preference_cells(result: PreferenceResult) -> tuple[object, ...]:
    unsteered, steered = result.unsteered, result.steered
    moved: tuple[object, ...] = (None,) * 7
    if steered is not None:
        shift, random = steered.shift, steered.random
        moved = (shift.value, shift.low, shift.high, shift.n, sum(random) / len(random), max(random), len(random))
    return (
        result.dimension,
        *(unsteered.value, unsteered.low, unsteered.high, unsteered.n, result.layer, STRENGTH, *moved),
    )


def onset_lines(onsets: Sequence[DimensionOnset]) -> str:
    """One line per dimension, to be printed."""
    kinds = tuple(dict.fromkeys(found.kind for found in onsets))
    lines = [f"Onsets, each wrong in at most 5 % over {counted(max(found.checkpoints for found in onsets), 'step')}:"]
    lines += [f"  {kind}: {RULES[kind]}" for kind in kinds]
    width = max(10, *(len(str(found.onset)) for found in onsets))
    name = name_width(found.dimension for found in onsets)
    lines.append(f"{'dimension':<{name}}" + "".join(f" {kind:>{width}}" for kind in kinds))
    for dimension in dict.fromkeys(found.dimension for found in onsets):
        lines.append(f"{dimension:<{name}}" + "".join(f" {cell:>{width}}" for cell in onset_cells(onsets, dimension)))
    lines += not_shown_to_last((f"{found.dimension} ({found.kind})", found.onset) for found in onsets)
    return "\n".join(["", *lines])


def onset_cells(onsets: Sequence[DimensionOnset], dimension: str) -> tuple[str, ...]:
    return tuple(str(found.onset) for found in onsets if found.dimension == dimension)
