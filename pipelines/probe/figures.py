"""Figures of a probing sweep: where (layer) and when (steps or tokens of pre-training) a dimension can be read."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipelines.estimators.estimate import Estimate
from pipelines.figures.style import (
    ACCENT,
    CHANCE,
    CONTROL,
    FAINT,
    FLOOR,
    GOLD,
    MARKED,
    Figure,
    broken,
    draw_band,
    draw_curve,
    draw_training_axis,
    hatch_repeated,
    label_checkpoints,
    legend_below,
    set_title,
    spread,
    width,
)
from pipelines.figures.training_axis import TrainingAxis
from pipelines.probe.controls import Floors
from pipelines.probe.result import UnitResult
from pipelines.probe.selection import SATURATED, SelectedProbe, Selection
from pipelines.sweep.unit import without_place

FRAGILITY = "#4f9a94"
PANEL = "all_dimensions"
"""The name of the figure of all dimensions, which the run's description shows."""


def heat_map(results: Sequence[UnitResult], floors: Floors) -> Figure:
    """Held-out accuracy by layer and checkpoint; the colour scale starts at chance."""
    layers = [score.layer for score in results[0].pooled]
    values = np.array([[result.score(layer).accuracy.value for result in results] for layer in layers])
    figure = Figure(figsize=(width(len(results), 0.62, 1.8), 1.6 + 0.24 * len(layers)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="viridis", vmin=0.5, vmax=max(0.75, values.max()))
    axis = TrainingAxis.of([result.checkpoint for result in results])
    label_checkpoints(axes, axis)
    shown = spread(len(layers))
    axes.set_yticks(shown, [str(layers[row]) for row in shown])
    axes.set_xlabel(f"{axis.name}{hatch_repeated(axes, _distinct(results))}")
    axes.set_ylabel("layer")
    set_title(axes, _title(results[0]))
    name = f"accuracy (n = {results[0].pooled[0].accuracy.n:,})\nred line: n-gram floor"
    bar = figure.colorbar(image, ax=axes)
    bar.set_label(name, fontsize=8)
    bar.ax.axhline(floors.ngram[None].value, color=FLOOR, linewidth=3)
    return figure


def curve(selected: Sequence[SelectedProbe], floors: Floors, random_init: SelectedProbe) -> Figure:
    """Accuracy of the choice of a layer over pre-training, with its interval and every control."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    _draw_curve(axes, selected, floors, random_init)
    axes.set_ylabel(f"held-out accuracy\n95 % interval (n = {selected[0].accuracy.n:,})")
    set_title(axes, f"{_title(selected[0].result)}, deep layer chosen in nested folds")
    legend_below(figure, columns=3)
    return figure


def panel(selection: Selection, floors: Mapping[str, Floors]) -> Figure:
    """The curve of every dimension beside its controls, on one scale."""
    columns = min(3, len(floors))
    rows = -(-len(floors) // columns)
    figure = Figure(figsize=(0.8 + 3.4 * columns, 0.8 + 2.6 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes, (dimension, floor) in zip(panels, floors.items(), strict=False):
        selected = selection.layers_of(dimension)
        _draw_curve(axes, selected, floor, selection.initial[dimension])
        axes.set_title(f"{broken(dimension, 24)} (n = {selected[0].accuracy.n:,})", loc="left", fontsize=9)
    for axes in panels[len(floors) :]:
        axes.set_visible(False)
    legend_below(figure, columns=3, short=True)
    figure.supylabel("held-out accuracy, 95 % interval", fontsize=9)
    figure.suptitle(selected[0].result.checkpoint.model, fontsize=10, x=0.02, ha="left")
    return figure


def _draw_curve(axes: Axes, selected: Sequence[SelectedProbe], floors: Floors, random_init: SelectedProbe) -> None:
    axis = TrainingAxis.of([probe.result.checkpoint for probe in selected])
    positions = np.array(axis.places) if axis.is_ordered else np.arange(len(selected))
    distinct = _distinct([probe.result for probe in selected])
    _draw_accuracies(axes, positions, [probe.accuracy for probe in selected], distinct)
    shuffled = np.array([probe.result.score(probe.layer).shuffled.value for probe in selected])
    axes.plot(positions[distinct], shuffled[distinct], color=FAINT, label="shuffled labels")
    control = random_init.accuracy
    axes.axhline(control.value, color=CONTROL, linestyle="--", label="random initialisation")
    axes.axhspan(control.low, control.high, color=CONTROL, alpha=0.12, linewidth=0)
    for estimate, colour, name in (
        (floors.ngram[None], FLOOR, f"n-gram floor ({floors.ngram_kind})"),
        (floors.surface[None], GOLD, "surface floor"),
    ):
        axes.axhline(estimate.value, color=colour, linewidth=1, label=name)
        axes.axhspan(estimate.low, estimate.high, color=colour, alpha=0.12, linewidth=0)
    axes.axhline(CHANCE, color=FAINT, linewidth=1, linestyle=":", label="chance")
    if any(probe.accuracy.value >= SATURATED for probe in selected):
        _draw_fragility(axes, positions, selected, distinct)
    draw_training_axis(axes, axis)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_fragility(
    axes: Axes, positions: np.ndarray, selected: Sequence[SelectedProbe], distinct: Bool[np.ndarray, " checkpoints"]
) -> None:
    """On an axis of its own: what still rises where accuracy can rise no further."""
    measured = [probe.saturation.fragility if probe.saturation else None for probe in selected]
    values = np.array([np.nan if estimate is None else estimate.value for estimate in measured])
    if np.isnan(values).all():
        return
    right, name = axes.twinx(), "noise that leaves .75 (right)"
    draw_curve(right, positions, values, distinct, colour=FRAGILITY, label=name)
    right.set_ylim(0, 1.1 * float(np.nanmax(values)))
    right.set_ylabel("fragility, RMS of activations", color=FRAGILITY, fontsize=8)
    right.tick_params(axis="y", colors=FRAGILITY, labelsize=7)
    right.spines["top"].set_visible(False)
    axes.plot([], [], "o-", color=FRAGILITY, markersize=3, label=name)


def profile(result: UnitResult, floors: Floors, random_init: UnitResult) -> Figure:
    """Accuracy by layer at one checkpoint, beside the random initialisation layer by layer."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    layers = np.array([score.layer for score in result.pooled])
    for source, colour, name in (
        (result, ACCENT, result.checkpoint.caption),
        (random_init, CONTROL, "random initialisation"),
    ):
        estimates = [score.accuracy for score in source.pooled]
        axes.plot(layers, [estimate.value for estimate in estimates], "o-", color=colour, markersize=3, label=name)
        axes.fill_between(
            layers,
            [estimate.low for estimate in estimates],
            [estimate.high for estimate in estimates],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    axes.plot(layers, [score.shuffled.value for score in result.pooled], color=FAINT, label="shuffled labels")
    axes.axhline(floors.ngram[None].value, color=FLOOR, linewidth=1, label=f"n-gram floor ({floors.ngram_kind})")
    axes.axhline(floors.surface[None].value, color=GOLD, linewidth=1, label="surface floor")
    axes.axhline(CHANCE, color=FAINT, linewidth=1, linestyle=":", label="chance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer")
    axes.set_ylabel(f"held-out accuracy\n95 % interval (n = {result.pooled[0].accuracy.n:,})")
    set_title(axes, f"{_title(result)}, {result.checkpoint.caption}")
    legend_below(figure, columns=3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _distinct(results: Sequence[UnitResult]) -> Bool[np.ndarray, " checkpoints"]:
    """Which of one dimension's results neither have the weights of an earlier one nor a step that is disputed."""
    excluded = without_place(results)
    return np.array([result.checkpoint not in excluded for result in results])


def _draw_accuracies(
    axes: Axes, positions: np.ndarray, estimates: Sequence[Estimate], distinct: Bool[np.ndarray, " checkpoints"]
) -> None:
    values = np.array([estimate.value for estimate in estimates])
    low, high = np.array([(estimate.low, estimate.high) for estimate in estimates]).T
    if distinct.sum() > 1:
        draw_band(axes, positions, low, high, distinct, colour=ACCENT)
    if len(positions) <= MARKED:
        spread = ((values - low).clip(0), (high - values).clip(0))
        axes.errorbar(positions, values, yerr=spread, fmt="none", color=ACCENT, capsize=2)
    draw_curve(axes, positions, values, distinct, colour=ACCENT, label="linear probe", size=4)


def _title(result: UnitResult) -> str:
    return f"{result.checkpoint.model}: {result.dimension} ({result.statements_source})"
