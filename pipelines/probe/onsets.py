"""Onsets of a dimension: the steps from which it can be read, is used by the model itself, and can be steered.

Each is wrong in at most 5 % of dimensions over all steps (Bonferroni); layers add nothing to it, since each step has
one layer, chosen on statements other than those it is judged on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pipelines.estimators.dynamics import surely_above
from pipelines.estimators.estimate import CONFIDENCE, Estimate, prediction_bound
from pipelines.probe.controls import Floors
from pipelines.probe.options import READABLE, STEERABLE, USED
from pipelines.probe.preferences import STRENGTH, PreferenceResult, SteeredPreference
from pipelines.probe.selection import Selection
from pipelines.sweep.unit import points_along
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table

CHANCE = Estimate(0.5, 0.5, 0.5, 0)
ZERO = Estimate(0.0, 0.0, 0.0, 0)
RULES = {
    READABLE: "accuracy of the probe above random initialisation and the n-gram floor",
    USED: "preference of the checkpoint as it stands above chance and random initialisation",
    STEERABLE: f"shift by its own vector, strength {STRENGTH:g}, above zero and one more random direction of its norm",
}

ONSET_COLUMNS = ("model", "dimension", "onset", "step", "checkpoints", "error_rate", "rule")
PREFERENCE_COLUMNS = checkpoint_columns(
    "dimension", "preference", "preference_low", "preference_high", "n_preference",
    "layer", "strength", "shift", "shift_low", "shift_high", "n", "random_mean", "random_max", "random_directions",
)  # fmt: skip


@dataclass(frozen=True)
class Onset:
    """The first step of one dimension that a rule holds at."""

    dimension: str
    kind: str
    step: int | None
    """``None`` for none of those measured."""
    checkpoints: int
    """Steps looked at: each set of weights once, of the first stage."""


def onsets_of(
    kinds: Sequence[str],
    selection: Selection,
    floors: Mapping[str, Floors],
    preferences: Sequence[PreferenceResult],
) -> tuple[Onset, ...]:
    """The onsets asked for, of every dimension in turn."""
    onsets = []
    for dimension, floor in floors.items():
        for kind in kinds:
            if kind == READABLE:
                holds = _readable(selection, dimension, floor.ngram[None])
            else:
                own = [result for result in preferences if result.dimension == dimension]
                holds = _used(own) if kind == USED else _steerable(own)
            first = next((step for step, held in holds if held), None)
            onsets.append(Onset(dimension, kind, first, len(holds)))
    return tuple(onsets)


def _readable(selection: Selection, dimension: str, floor: Estimate) -> list[tuple[int, bool]]:
    probes = {probe.result.checkpoint: probe.accuracy for probe in selection.layers_of(dimension)}
    along = points_along([probe.result for probe in selection.layers_of(dimension)])
    controls = (selection.initial[dimension].accuracy, floor)
    return [
        (result.checkpoint.step, all(surely_above(probes[result.checkpoint], each, len(along)) for each in controls))
        for result in along
    ]


def _used(results: Sequence[PreferenceResult]) -> list[tuple[int, bool]]:
    initial = next(result for result in results if result.checkpoint.is_random_init)
    along = points_along([result for result in results if not result.checkpoint.is_random_init])
    return [(result.checkpoint.step, is_used(result.unsteered, initial.unsteered, len(along))) for result in along]


def is_used(preference: Estimate, initial: Estimate, comparisons: int) -> bool:
    """Random weights prefer shorter statements by themselves, so chance alone is too little to lie above."""
    return all(surely_above(preference, control, comparisons) for control in (CHANCE, initial))


def _steerable(results: Sequence[PreferenceResult]) -> list[tuple[int, bool]]:
    along = points_along([result for result in results if not result.checkpoint.is_random_init])
    return [
        (result.checkpoint.step, result.steered is not None and is_steerable(result.steered, len(along)))
        for result in along
    ]


def is_steerable(steered: SteeredPreference, comparisons: int) -> bool:
    """The effect of a small offset is linear in it, so that those of random directions are normal."""
    bound = prediction_bound(steered.random, (1 - CONFIDENCE) / comparisons)
    controls = (ZERO, Estimate(bound, bound, bound, len(steered.random)))
    return all(surely_above(steered.shift, control, comparisons) for control in controls)


def onset_table(model: str, onsets: Sequence[Onset]) -> pd.DataFrame:
    """``onsets.csv``: ``step`` is empty where there is none."""
    rows = [
        (model, onset.dimension, onset.kind, onset.step, onset.checkpoints, round(1 - CONFIDENCE, 2), RULES[onset.kind])
        for onset in onsets
    ]
    return pd.DataFrame(rows, columns=list(ONSET_COLUMNS)).astype({"step": "Int64"})


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


def onset_lines(onsets: Sequence[Onset]) -> str:
    """One line per dimension, to be printed."""
    kinds = tuple(dict.fromkeys(onset.kind for onset in onsets))
    lines = [f"Onsets, each wrong in at most 5 % over {max(onset.checkpoints for onset in onsets)} steps:"]
    lines += [f"  {kind}: {RULES[kind]}" for kind in kinds]
    lines.append(f"{'dimension':<12}" + "".join(f" {kind:>10}" for kind in kinds))
    for dimension in dict.fromkeys(onset.dimension for onset in onsets):
        lines.append(f"{dimension:<12}" + "".join(f" {cell:>10}" for cell in onset_cells(onsets, dimension)))
    return "\n".join(["", *lines])


def onset_cells(onsets: Sequence[Onset], dimension: str) -> tuple[str, ...]:
    own = (onset for onset in onsets if onset.dimension == dimension)
    return tuple("never" if onset.step is None else f"{onset.step:,}" for onset in own)
