"""Tables of a probing sweep: one row per layer and split, with every control beside the accuracy."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from pipelines.estimators.estimate import Estimate
from pipelines.estimators.saturation import CANNOT_BE_TOLD, Saturation
from pipelines.probe.controls import Floors
from pipelines.probe.result import UnitResult
from pipelines.probe.selection import SelectedProbe
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table
from registry.checkpoints import Checkpoint

PROBE_COLUMNS = checkpoint_columns(
    "dimension", "layer", "accuracy", "accuracy_low", "accuracy_high", "auroc", "bits",
    "random_init", "shuffled", "ngram_floor", "surface_floor", "n_train", "n_test", "seed", "selected",
    "random_init_low", "random_init_high", "margin", "margin_low", "margin_high", "fragility", "fragility_low",
    "fragility_high", "tpr_at_1_fpr", "tpr_at_1_fpr_low", "tpr_at_1_fpr_high",
)  # fmt: skip
"""``selected`` says how a layer or checkpoint was chosen, in rows that tell what the choice is worth; ``layer`` and
``step`` are there those of most outer folds. ``random_init_low`` and ``…_high`` are the interval of the same split, or
of the same choice over all splits. ``margin`` and what follows still differ where ``accuracy`` is 1.00."""

CONTROL_COLUMNS = (
    "model", "dimension", "control", "layer", "accuracy", "accuracy_low", "accuracy_high", "n_test", "seed", "detail",
)  # fmt: skip


def probe_table(
    results: Iterable[UnitResult],
    floors: Mapping[str, Floors],
    random_init: Mapping[str, UnitResult],
    selected: Iterable[tuple[SelectedProbe, SelectedProbe]] = (),
) -> pd.DataFrame:
    """``probe.csv``: accuracy of every checkpoint, dimension, layer and split, with its controls on the same split.

    Then a row for each of ``selected``, beside the same choice at random initialisation.
    """
    rows: list[tuple[Checkpoint, tuple[object, ...]]] = []
    for result in results:
        for score in result.scores:
            if score.seed is None:
                continue
            floor = floors[result.dimension]
            control = random_init[result.dimension].score(score.layer, score.seed).accuracy
            cells = (
                result.dimension,
                score.layer,
                score.accuracy.value,
                score.accuracy.low,
                score.accuracy.high,
                score.auroc,
                score.bits,
                control.value,
                score.shuffled.value,
                floor.ngram[score.seed].value,
                floor.surface[score.seed].value,
                score.n_train,
                score.accuracy.n,
                score.seed,
                "",
                control.low,
                control.high,
                *_saturation_cells(score.saturation),
            )
            rows.append((result.checkpoint, cells))
    rows += [
        (probe.result.checkpoint, _selected_cells(probe, control, floors[probe.result.dimension]))
        for probe, control in selected
    ]
    return checkpoint_table(rows, PROBE_COLUMNS).astype({"seed": "Int64"})


def _selected_cells(probe: SelectedProbe, control: SelectedProbe, floor: Floors) -> tuple[object, ...]:
    score, accuracy = probe.result.score(probe.layer), probe.accuracy
    return (
        *(probe.result.dimension, probe.layer),
        *(accuracy.value, accuracy.low, accuracy.high, probe.auroc, probe.bits),
        *(control.accuracy.value, score.shuffled.value, floor.ngram[None].value, floor.surface[None].value),
        *(score.n_train, accuracy.n, None, probe.rule),
        *(control.accuracy.low, control.accuracy.high),
        *_saturation_cells(probe.saturation),
    )


def _saturation_cells(measured: Saturation | None) -> tuple[object, ...]:
    """Empty where a stored result has none, or none exists; in words where there are too few statements for one."""
    if measured is None:
        return (None,) * 9
    margin, fragility = (
        (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
        for estimate in (measured.margin, measured.fragility)
    )
    tpr = (measured.tpr.value, measured.tpr.low, measured.tpr.high) if measured.tpr else (CANNOT_BE_TOLD, None, None)
    return *margin, *fragility, *tpr


def control_table(model: str, floors: Mapping[str, Floors], random_init: Mapping[str, UnitResult]) -> pd.DataFrame:
    """``controls.csv``: the controls with their intervals, which ``probe.csv`` gives as points."""
    rows: list[Sequence[object]] = []
    for dimension, floor in floors.items():
        for control, estimates, detail in (
            ("ngram_floor", floor.ngram, f"TF-IDF {floor.ngram_kind} n-grams"),
            ("surface_floor", floor.surface, "length, words, capitals, punctuation"),
        ):
            for seed, estimate in estimates.items():
                rows.append((model, dimension, control, None, *_interval(estimate), seed, detail))
        for score in random_init[dimension].scores:
            detail = "same architecture, random weights"
            rows.append((model, dimension, "random_init", score.layer, *_interval(score.accuracy), score.seed, detail))
    return pd.DataFrame(rows, columns=list(CONTROL_COLUMNS)).astype({"layer": "Int64", "seed": "Int64"})


def _interval(estimate: Estimate) -> tuple[float, float, float, int]:
    return estimate.value, estimate.low, estimate.high, estimate.n
