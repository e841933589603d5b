"""Figures of an evaluation: effects beside random directions, what they do to each other, and what they cost."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from pipelines.calibrate.effects import CHEAP
from pipelines.estimators.estimate import Estimate
from pipelines.evaluate.results import HEADLINE, Row, Verdict
from pipelines.evaluate.text import TextResult
from pipelines.evaluate.tracing import TracedCheckpoint, TracedCorrelation
from pipelines.figures.style import (
    ACCENT,
    CONTROL,
    FAINT,
    FLOOR,
    GOLD,
    NARROWEST,
    Figure,
    broken,
    legend_below,
    set_heading,
    set_title,
)


def effects_figure(model: str, verdicts: Sequence[Verdict]) -> Figure:
    """The change of each dimension's preference with its interval, beside random directions that move as far."""
    figure, axes = _changes(
        [(verdict.row.comparison.difference, verdict.random) for verdict in verdicts], "random directions"
    )
    axes.set_yticks(
        range(len(verdicts)),
        [f"{broken(verdict.dimension)} (n = {verdict.row.measurement.n:,})" for verdict in verdicts],
    )
    axes.set_xlabel("change of preference for trustworthy statements, nats")
    set_title(axes, f"{model}: held-out statements")
    return figure


def text_figure(model: str, results: Sequence[TextResult]) -> Figure:
    """The change of each dimension's untrustworthy answers, with its interval, beside random directions."""
    changes = [
        (result.vector.comparison.difference, [control.comparison.difference.value for control in result.controls])
        for result in results
    ]
    figure, axes = _changes(changes, "random directions of equal cost", scale=100)
    axes.set_yticks(
        range(len(results)), [f"{broken(result.dimension)} (n = {result.vector.measurement.n:,})" for result in results]
    )
    axes.set_xlabel("change of the share of untrustworthy answers, points (left is better)")
    set_title(axes, f"{model}: what is written")
    return figure


def _changes(
    changes: Sequence[tuple[Estimate, Sequence[float]]], controls: str, *, scale: float = 1
) -> tuple[Figure, Axes]:
    """A line a dimension, from the top: its change with the interval, and those of ``controls``."""
    figure = Figure(figsize=(6.4, 1.4 + 0.55 * len(changes)), layout="constrained")
    axes = figure.subplots()
    for place, (change, random) in enumerate(changes):
        value, low, high = (scale * number for number in (change.value, change.low, change.high))
        spread = [[max(0.0, value - low)], [max(0.0, high - value)]]
        label = "vector, 95 % interval" if place == 0 else None
        axes.errorbar([value], [place], xerr=spread, fmt="o", color=ACCENT, capsize=3, label=label)
        label = controls if place == 0 else None
        axes.plot([scale * each for each in random], [place] * len(random), "x", color=CONTROL, label=label)
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.invert_yaxis()
    legend_below(figure, columns=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def entanglement_figure(model: str, table: pd.DataFrame) -> Figure:
    """What each dimension's vector (rows) does to the preference in every dimension (columns), with intervals."""
    names = list(dict.fromkeys(table["steered"]))
    figure = Figure(figsize=(max(NARROWEST, 2.6 + 1.35 * len(names)), 1.8 + 0.75 * len(names)), layout="constrained")
    axes = figure.subplots()
    cells = table.set_index(["steered", "scored"])
    values = np.array([[cells.loc[(row, column), "difference"] for column in names] for row in names], np.float64)
    # What may be chance is pale: the scale is that of the intervals.
    ends = table[["difference_low", "difference_high"]].to_numpy(np.float64)
    largest = max(float(np.abs(ends).max()), 1e-9)
    image = axes.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto")
    for row, steered in enumerate(names):
        for column, scored in enumerate(names):
            cell = cells.loc[(steered, scored)]
            text = f"{cell['difference']:+z.2f}\n[{cell['difference_low']:+z.2f}, {cell['difference_high']:+z.2f}]"
            colour = "white" if abs(values[row, column]) > 0.6 * largest else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    sizes = {scored: int(n) for scored, n in zip(table["scored"], table["n"], strict=True)}
    axes.set_xticks(range(len(names)), [f"{broken(name)}\nn = {sizes[name]:,}" for name in names], fontsize=8)
    axes.set_yticks(range(len(names)), [broken(name) for name in names])
    axes.set_xlabel("preference in")
    axes.set_ylabel("steered by the vector of")
    set_title(axes, f"{model}: change of preference, nats (95 % interval)")
    figure.colorbar(image, ax=axes)
    return figure


def cost_figure(model: str, rows: Sequence[Row]) -> Figure:
    """Every condition's effect on its own dimension against the perplexity that it costs."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    base = next(row.comparison.value.value for row in rows if row.measurement.metric == "perplexity")
    ratios = {
        row.condition: row.comparison.value.value / base for row in rows if row.measurement.metric == "perplexity"
    }
    styles = {
        "vector": ("o", ACCENT, "vector"),
        "reversed": ("v", FLOOR, "reversed vector"),
        "random": ("x", CONTROL, "random direction"),
        "prompt": ("s", GOLD, "instruction before the text"),
    }
    own = [
        row
        for row in rows
        if row.measurement.metric == HEADLINE and row.measurement.dimension == row.condition.dimension
    ]
    for kind, (marker, colour, name) in styles.items():
        chosen = [row for row in own if row.condition.kind == kind]
        x = [ratios[row.condition] for row in chosen]
        axes.plot(
            x, [row.comparison.difference.value for row in chosen], marker, color=colour, label=name, markersize=5
        )
        if kind == "vector":
            for row, place in zip(chosen, x, strict=True):
                at = (place, row.comparison.difference.value)
                label = axes.annotate(
                    row.condition.dimension, at, xytext=(4, 3), textcoords="offset points", fontsize=7
                )
                label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
                label.set_zorder(5)
    axes.axvline(CHEAP, color=FLOOR, linewidth=1, label=f"{CHEAP:g} times the perplexity")
    axes.axhline(0, color=FAINT, linewidth=1)
    axes.set_xlabel("perplexity / unsteered")
    axes.set_ylabel("change of own preference, nats")
    set_title(axes, model)
    legend_below(figure, columns=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def tracing_figure(model: str, traced: Sequence[TracedCheckpoint], correlations: Sequence[TracedCorrelation]) -> Figure:
    """Each checkpoint's steering effect against its probe's accuracy, with both intervals; later is darker."""
    names = list(dict.fromkeys(checkpoint.dimension for checkpoint in traced))
    columns = min(3, max(1, len(names)))
    lines = -(-len(names) // columns) or 1
    figure = Figure(figsize=(max(NARROWEST, 3.2 * columns), 0.6 + 2.7 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(panels, names, strict=False):
        own = [checkpoint for checkpoint in traced if checkpoint.dimension == name]
        for place, checkpoint in enumerate(own):
            x, y = checkpoint.accuracy, checkpoint.effect
            spread = {
                "xerr": [[max(0.0, x.value - x.low)], [max(0.0, x.high - x.value)]],
                "yerr": [[max(0.0, y.value - y.low)], [max(0.0, y.high - y.value)]],
            }
            axes.errorbar([x.value], [y.value], fmt="o", color=ACCENT, alpha=0.25 + 0.75 * place / len(own), **spread)
        changes = next(each.changes for each in correlations if each.dimension == name)
        axes.set_title(f"{broken(name, 30)}\nr of changes {changes}, n = {changes.n:,}", loc="left", fontsize=8)
        axes.axhline(0, color=FAINT, linewidth=1)
        axes.set_xlabel("probe accuracy", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("change of preference, nats", fontsize=8)
    set_heading(figure, f"{model}: each checkpoint's direction in one model")
    return figure
