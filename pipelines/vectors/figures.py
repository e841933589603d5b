"""Figure of vectors by different methods, beside controls: how well each separates held-out statements."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from pipelines.figures.style import (
    ACCENT,
    CHANCE,
    CONTROL,
    FAINT,
    MARKED,
    Figure,
    draw_training_axis,
    legend_below,
    set_title,
    spread,
)
from pipelines.figures.training_axis import TrainingAxis
from pipelines.tracking.checkpoints import checkpoint_names

CONTROLS = ("random", "shuffled")
MOST_LINES = 5
"""Layers in a panel; of more those are drawn that are evenly spread."""


def method_chart(table: pd.DataFrame, dimension: str) -> Figure:
    """AUROC of held-out projections with its interval, by method; over training where there are several checkpoints."""
    rows = table[table["dimension"] == dimension]
    rows = rows.assign(checkpoint=checkpoint_names(rows))
    figure = _over_training(rows) if rows["checkpoint"].nunique() > 1 else _side_by_side(rows)
    title = f"{rows['model'].iloc[0]}: {dimension}"
    if len(figure.axes) > 1:
        figure.suptitle(title, fontsize=10, x=0.02, ha="left")
    else:
        set_title(figure.axes[0], title)
    return figure


def _side_by_side(rows: pd.DataFrame) -> Figure:
    """One checkpoint: a row of ``vectors.csv`` a line."""
    rows = rows.iloc[::-1]
    figure = Figure(figsize=(6.4, 1.2 + 0.25 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows.itertuples()):
        colour = CONTROL if row.method in CONTROLS else ACCENT
        ends = [[row.auroc - row.auroc_low], [row.auroc_high - row.auroc]]
        axes.errorbar([row.auroc], [place], xerr=ends, fmt="o", color=colour, capsize=3, markersize=4)
    axes.axvline(CHANCE, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{row.method}, layer {row.layer}" for row in rows.itertuples()])
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"AUROC of held-out projections, 95 % interval ({_n(rows)})")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _over_training(rows: pd.DataFrame) -> Figure:
    """A panel a method, all on one scale; a line a layer, or one where each checkpoint has a layer of its own."""
    rows, axis = _placed(rows)
    methods = [method for method in dict.fromkeys(rows["method"]) if method not in CONTROLS]
    columns = min(4, max(1, len(methods)))
    lines = -(-len(methods) // columns) or 1
    figure = Figure(figsize=(1.2 + 2.9 * columns, 1.2 + 2.3 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, sharey=True, squeeze=False).flat)
    controls = rows[rows["method"].isin(CONTROLS)]
    for place, (axes, method) in enumerate(zip(panels, methods, strict=False)):
        _draw_controls(axes, controls)
        _draw_layers(axes, rows[rows["method"] == method])
        axes.set_title(method, loc="left", fontsize=9)
        draw_training_axis(axes, axis, most_ticks=5)
        axes.set_xlabel(axis.name if place + columns >= len(methods) else "", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(methods) :]:
        axes.set_visible(False)
    legend_below(figure, columns=4)
    figure.supylabel(f"AUROC of held-out projections, 95 % interval ({_n(rows)})", fontsize=9)
    return figure


def _placed(rows: pd.DataFrame) -> tuple[pd.DataFrame, TrainingAxis]:
    """The rows with their places on the axis of training."""
    checkpoints = rows.drop_duplicates("checkpoint")
    tokens = [None if pd.isna(count) else int(count) for count in checkpoints["tokens"]]
    axis = TrainingAxis.of_steps([int(step) for step in checkpoints["step"]], tokens)
    places: Sequence[int] = axis.places if axis.is_ordered else range(len(checkpoints))
    place_of = dict(zip(checkpoints["checkpoint"], places, strict=True))
    return rows.assign(place=rows["checkpoint"].map(place_of)), axis


def _draw_controls(axes: Axes, controls: pd.DataFrame) -> None:
    axes.axhline(CHANCE, color=FAINT, linewidth=1, linestyle=":", label="chance")
    if len(controls):
        reached = controls.groupby("place")["auroc"].agg(["min", "max"])
        label = f"controls ({', '.join(dict.fromkeys(controls['method']))})"
        axes.fill_between(reached.index, reached["min"], reached["max"], color=CONTROL, alpha=0.4, label=label)


def _draw_layers(axes: Axes, rows: pd.DataFrame) -> None:
    """From darker to lighter the deeper; the interval where there is one line."""
    marker = "o" if rows["place"].nunique() <= MARKED else ""
    if not rows.duplicated("place").any():
        axes.fill_between(rows["place"], rows["auroc_low"], rows["auroc_high"], color=ACCENT, alpha=0.2, linewidth=0)
        axes.plot(rows["place"], rows["auroc"], "-", marker=marker, color=ACCENT, markersize=3, label="fitted vector")
        return
    layers = sorted(rows["layer"].unique())
    shown = [layers[place] for place in spread(len(layers), MOST_LINES)]
    for layer, colour in zip(shown, colormaps["viridis"](np.linspace(0, 0.85, len(shown))), strict=True):
        own = rows[rows["layer"] == layer]
        axes.plot(own["place"], own["auroc"], "-", marker=marker, color=colour, markersize=3, label=f"layer {layer}")


def _n(rows: pd.DataFrame) -> str:
    return f"n = {int(rows['n_test'].max()):,}"
