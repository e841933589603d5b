"""Figure of a comparison: the curves of all series with both bands, and below them the onsets."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from pipelines.compare.comparison import SeriesComparison
from pipelines.figures.style import (
    ACCENT,
    CHANCE,
    CONTROL,
    FAINT,
    FLOOR,
    Figure,
    draw_training_axis,
    legend_below,
    set_title,
)
from pipelines.figures.training_axis import TrainingAxis


def comparison_figure(comparison: SeriesComparison) -> Figure:
    """Over tokens where all series tell them and agree at shared steps; else over steps."""
    onsets = 0.25 * (len(comparison.curves) + 2)
    figure = Figure(figsize=(7.0, 4.4 + onsets), layout="constrained")
    top, below = figure.subplots(2, sharex=True, height_ratios=(3.2, onsets))
    colours = dict(
        zip(comparison.curves, colormaps["viridis"](np.linspace(0, 0.9, len(comparison.curves))), strict=True)
    )
    axis = TrainingAxis.of_steps(comparison.steps, comparison.tokens)
    places = dict(zip(comparison.steps, axis.places, strict=True))
    _bands(top, comparison, places)
    for name, curve in comparison.curves.items():
        values = [accuracy.value for accuracy in curve.accuracies]
        top.plot(
            [places[step] for step in curve.steps],
            values,
            "o-",
            color=colours[name],
            linewidth=1,
            markersize=3,
            label=name,
        )
    top.plot([], [], "o", color=FAINT, markersize=4, label="onset (half: lost later; hollow: never)")
    controls = [curve.random_init.value for curve in comparison.curves.values()]
    top.axhspan(min(controls), max(controls), color=CONTROL, alpha=0.15, linewidth=0)
    top.axhline(float(np.mean(controls)), color=CONTROL, linestyle="--", linewidth=1, label="random initialisations")
    floor = next(iter(comparison.curves.values())).ngram_floor
    top.axhline(floor, color=FLOOR, linewidth=1, label="n-gram floor")
    top.axhline(CHANCE, color=FAINT, linewidth=1, linestyle=":", label="chance")
    n = next(iter(comparison.curves.values())).accuracies[0].n
    top.set_ylabel(f"held-out accuracy (n = {n:,} statements)")
    set_title(top, f"{comparison.dimension}, {len(comparison.curves)} series")
    legend_below(figure, columns=3)
    _onsets(below, comparison, colours, places)
    draw_training_axis(below, axis)
    for axes in (top, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _bands(axes: Axes, comparison: SeriesComparison, places: Mapping[int, int]) -> None:
    if not comparison.bands:  # no step is shared
        return
    x = [places[band.step] for band in comparison.bands]
    series = [band.between_series for band in comparison.bands]
    statements = [band.between_statements for band in comparison.bands]
    means = [estimate.value for estimate in series]
    axes.plot(x, means, "D-" if len(x) == 1 else "-", color=ACCENT, linewidth=2.5, label="mean of series")
    for estimates, colour, name in (
        (statements, CONTROL, "its mean 95 % interval over statements"),
        (series, ACCENT, f"its 95 % interval over {len(comparison.curves)} series"),
    ):
        low, high = [estimate.low for estimate in estimates], [estimate.high for estimate in estimates]
        axes.fill_between(x, low, high, color=colour, alpha=0.22, linewidth=0, label=name)
        if len(x) == 1:  # which has no breadth
            axes.vlines(x, low, high, color=colour, alpha=0.4, linewidth=4)


def _onsets(
    axes: Axes, comparison: SeriesComparison, colours: Mapping[str, np.ndarray], places: Mapping[int, int]
) -> None:
    """A dot a series at its onset: half where that is lost later, hollow at the last step where it has none.

    Below them the median with its interval.
    """
    last, median = comparison.steps[-1], comparison.onset
    for height, (name, curve) in enumerate(comparison.curves.items(), 1):
        step, lost = curve.onset.step, curve.onset.lost
        style: Literal["full", "left", "none"] = "none" if step is None else "full" if lost is None else "left"
        place = places[last if step is None else step]
        axes.plot(place, height, "o", color=colours[name], markersize=4, fillstyle=style)
    low, high = (places[last if step is None else step] for step in (median.low, median.high))
    axes.plot([low, high], [0, 0], color=ACCENT, linewidth=2)
    if median.step is not None:
        axes.plot(places[median.step], 0, "D", color=ACCENT, markersize=4)
    axes.set_yticks([0, len(comparison.curves)], [f"median, {100 * median.confidence:.0f} %", "series"], fontsize=7)
    axes.set_ylim(-1, len(comparison.curves) + 1)
    axes.set_ylabel("onset", fontsize=8)
