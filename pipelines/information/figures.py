"""Figures of the information experiment: the information plane, curves over pre-training, heat maps by layer."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

from pipelines.estimators.estimate import Estimate
from pipelines.figures.style import (
    ACCENT,
    CONTROL,
    FAINT,
    FLOOR,
    MARKED,
    Figure,
    broken,
    draw_band,
    draw_curve,
    hatch_repeated,
    label_checkpoints,
    legend_below,
    legend_beside,
    set_heading,
    set_title,
    spread,
    width,
)
from pipelines.figures.training_axis import TrainingAxis
from pipelines.information.calibration import InformationCalibration
from pipelines.information.result import Dependence, LayerInformation
from pipelines.information.trajectory import Trajectory
from registry.counts import counted

NAMES = {"sound": "X of the same checkpoint", "sound-fixed": "X of the last checkpoint", "paper": "the paper's code"}
WARMUP = "#f8f2df"
LEAST = 0.1
"""The least height of an axis of nHSIC(T; Y) or bits, so that noise around nothing does not fill it."""
WIDEST_MATRIX = 5.0
"""Inches of one of three panels."""
MOST_BESIDE = 4
"""Panels in a row."""
MOST_NUMBERED = 12
"""Checkpoints, beyond which the numbers in a matrix would be too small to read."""
COLOURS = {"sound": ACCENT, "sound-fixed": "#4f9a94", "paper": ACCENT}


def information_plane(trajectory: Trajectory) -> Figure:
    """nHSIC(T; Y) over nHSIC(T; X): a line per layer, ten at most, and a point per checkpoint, lighter the later it is.

    A checkpoint with the weights of an earlier one lies on that one's point, and is not drawn again.
    """
    estimators = tuple(trajectory.initial.points[0].xt)
    figure = Figure(figsize=(1.2 + 4.6 * len(estimators), 4.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(estimators), sharey=True))
    colours, shown = np.linspace(0, 1, len(trajectory.steps)), trajectory.distinct
    layers = trajectory.initial.layers
    shown_layers = [layers[place] for place in spread(len(layers))]
    size = 22 if len(colours) <= MARKED else 6
    for axes, estimator in zip(panels, estimators, strict=True):
        for layer in shown_layers:
            points = [result.point(layer) for result in trajectory.trained]
            x = np.array([point.xt[estimator].nhsic for point in points])[shown]
            y = np.array([point.ty.nhsic for point in points])[shown]
            axes.plot(x, y, color=FAINT, linewidth=0.8, zorder=1)
            drawn = axes.scatter(x, y, c=colours[shown], cmap="viridis", s=size, zorder=2, vmin=0, vmax=1)
            axes.annotate(f"{layer}", (x[-1], y[-1]), xytext=(5, 2), textcoords="offset points", fontsize=8)
        axes.axhline(trajectory.trained[-1].points[-1].ty.null, color=FLOOR, linewidth=1, linestyle=":")
        axes.set_xlabel(f"nHSIC(T; X), {NAMES[estimator]}")
        axes.spines[["top", "right"]].set_visible(False)
    _show_at_least(panels[0], 0, LEAST)
    panels[0].set_ylabel(f"nHSIC(T; Y)  (n = {trajectory.initial.n:,})")
    lines = "a line per layer (its number at the last step), dotted: 95 % null of nHSIC(T; Y)"
    set_title(panels[0], f"{_title(trajectory)}\n{lines}", size=9)
    axis, ticks = _axis(trajectory), spread(len(trajectory.steps))
    bar = figure.colorbar(drawn, ax=list(panels), label=axis.name, ticks=colours[ticks])
    bar.ax.set_yticklabels([axis.labels[position] for position in ticks], fontsize=7)
    return figure


def curves(trajectory: Trajectory, warmup_steps: int | None) -> Figure:
    """nHSIC with X and Y, the spectrum and usable bits over pre-training at one layer, with intervals and nulls."""
    figure = Figure(figsize=(7.6, 9.6), layout="constrained")
    rows = figure.subplots(4, sharex=True)
    points = [result.point(trajectory.layer) for result in trajectory.trained]
    _input_curves(rows[0], trajectory, points)
    _rank(rows[1], trajectory, points)
    _dependence(rows[2], trajectory, [point.ty for point in points], ACCENT, "nHSIC(T; Y)")
    _show_at_least(rows[2], 0, LEAST)
    rows[2].set_ylabel("nHSIC(T; Y)")
    _bits(rows[3], trajectory, points)
    for axes in rows:
        if warmup_steps is not None and warmup_steps >= trajectory.steps[0]:
            axes.axvspan(-0.4, _position(trajectory.steps, warmup_steps), color=WARMUP, zorder=0, linewidth=0)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            legend_beside(axes)
    axis = _axis(trajectory)
    label_checkpoints(rows[-1], axis)
    rows[-1].set_xlim(-0.4, len(trajectory.steps) - 0.6)
    rows[-1].set_xlabel(axis.name)
    shade = ""
    if warmup_steps is not None:
        shown = "; shaded: " if warmup_steps >= trajectory.steps[0] else "; before it: "
        shade = f"{shown}warm-up of the learning rate ({counted(warmup_steps, 'step')})"
    set_title(rows[0], f"{_title(trajectory)}, layer {trajectory.layer}{shade}", size=9)
    return figure


def _input_curves(axes: Axes, trajectory: Trajectory, points: Sequence[LayerInformation]) -> None:
    for estimator in points[0].xt:
        found = [point.xt[estimator] for point in points]
        _dependence(axes, trajectory, found, COLOURS[estimator], NAMES[estimator])
        phase = trajectory.phase(estimator, layer=trajectory.layer)
        if phase is not None and phase.shape.compresses:
            place = trajectory.steps.index(phase.shape.peak_step)
            name = f"its peak (p = {phase.shape.p_adjusted:.3f})"
            axes.plot(place, points[place].xt[estimator].nhsic, "v", color=FLOOR, markersize=7, label=name)
    axes.set_ylabel("nHSIC(T; X)\n95 % interval")


def _rank(axes: Axes, trajectory: Trajectory, points: Sequence[LayerInformation]) -> None:
    ranks = [point.spectrum.effective_rank for point in points]
    draw_curve(axes, range(len(ranks)), ranks, trajectory.distinct, colour=ACCENT, label="activations T")
    control = trajectory.initial.point(trajectory.layer).spectrum.effective_rank
    axes.axhline(control, color=CONTROL, linestyle="--", linewidth=1, label="random initialisation")
    axes.set_ylabel("effective rank")


def _dependence(axes: Axes, trajectory: Trajectory, found: Sequence[Dependence], colour: str, name: str) -> None:
    places, distinct = range(len(found)), trajectory.distinct
    values = np.array([dependence.nhsic for dependence in found])
    draw_curve(axes, places, values, distinct, colour=colour, label=name)
    margin = 1.96 * np.array([dependence.standard_error for dependence in found])
    if np.isfinite(margin).all():
        draw_band(axes, places, values - margin, values + margin, distinct, colour=colour)
    line = ":" if len(found) > 1 else "_"  # a line of one point is not seen
    axes.plot([dependence.null for dependence in found], line, color=colour, linewidth=1, label="its 95 % null")


def _bits(axes: Axes, trajectory: Trajectory, points: Sequence[LayerInformation]) -> None:
    _estimates(axes, trajectory, [point.bits for point in points], ACCENT, "usable information")
    _estimates(axes, trajectory, [point.conditional_bits for point in points], FLOOR, "beyond an n-gram model")
    axes.plot([point.neighbour_bits for point in points], "x", color=CONTROL, markersize=4, label="nearest neighbours")
    control = trajectory.initial.point(trajectory.layer).bits
    axes.axhline(control.value, color=CONTROL, linestyle="--", linewidth=1, label="random initialisation")
    axes.axhline(0, color=FAINT, linewidth=1)
    _show_at_least(axes, -LEAST / 2, LEAST)
    axes.set_ylabel(f"bits, held out\n95 % interval (n = {control.n:,})")


def _estimates(axes: Axes, trajectory: Trajectory, estimates: Sequence[Estimate], colour: str, name: str) -> None:
    places, distinct = range(len(estimates)), trajectory.distinct
    draw_curve(axes, places, [estimate.value for estimate in estimates], distinct, colour=colour, label=name)
    low, high = [estimate.low for estimate in estimates], [estimate.high for estimate in estimates]
    draw_band(axes, places, low, high, distinct, colour=colour)


def _show_at_least(axes: Axes, low: float, high: float) -> None:
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(bottom, low), max(top, high))


def _position(steps: Sequence[int], step: int) -> float:
    """Where ``step`` lies on an axis on which checkpoints are evenly spaced."""
    return float(np.interp(step, steps, np.arange(len(steps))))


def heat_maps(trajectory: Trajectory) -> Figure:
    """Layer by checkpoint: nHSIC(T; X), nHSIC(T; Y), usable bits and effective rank."""
    first = next(iter(trajectory.initial.points[0].xt))
    quantities: tuple[tuple[str, Callable[[LayerInformation], float]], ...] = (
        (f"nHSIC(T; X), {NAMES[first]}", lambda point: point.xt[first].nhsic),
        ("nHSIC(T; Y)", lambda point: point.ty.nhsic),
        ("usable information, bits", lambda point: point.bits.value),
        ("effective rank", lambda point: point.spectrum.effective_rank),
    )
    layers, axis = trajectory.initial.layers, _axis(trajectory)
    figure = Figure(
        figsize=(width(len(axis.labels), 0.84, 2.4, least=7.4), 3.8 + 0.2 * len(layers)), layout="constrained"
    )
    for axes, (name, value) in zip(figure.subplots(2, 2, sharex=True, sharey=True).flat, quantities, strict=True):
        values = np.array([[value(result.point(layer)) for result in trajectory.trained] for layer in layers])
        image = axes.imshow(
            values, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=max(LEAST, values.max())
        )
        axes.set_title(name, loc="left", fontsize=9)
        hatched = hatch_repeated(axes, trajectory.distinct)
        label_checkpoints(axes, axis)
        shown = spread(len(layers))
        axes.set_yticks(shown, [str(layers[row]) for row in shown])
        figure.colorbar(image, ax=axes)
    figure.supxlabel(f"{axis.name}{hatched}", fontsize=9)
    figure.supylabel("layer", fontsize=9)
    set_heading(figure, f"{_title(trajectory)} (n = {trajectory.initial.n:,})")
    return figure


def _axis(trajectory: Trajectory) -> TrainingAxis:
    return TrainingAxis.of([result.checkpoint for result in trajectory.trained])


def information_calibration(calibrations: Sequence[InformationCalibration]) -> Figure:
    """Bits over the share of flipped labels, a panel per dimension: measured, and what they must be."""
    columns = min(MOST_BESIDE, len(calibrations))
    rows = -(-len(calibrations) // columns)
    figure = Figure(figsize=(1.0 + 2.6 * max(2, columns), 0.6 + 2.6 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes in panels[len(calibrations) :]:
        axes.set_visible(False)
    for axes, calibration in zip(panels, calibrations, strict=False):
        points = calibration.points
        shares, bits = [point.share for point in points], [point.bits for point in points]
        below, above = [each.value - each.low for each in bits], [each.high - each.value for each in bits]
        for values, line, colour, name in (
            ([point.passed_bits for point in points], ":", CONTROL, "a perfect probe: 1 − H(p)"),
            ([point.expected_bits for point in points], "-", FLOOR, "expected of this probe"),
        ):
            axes.plot(shares, values, line, color=colour, linewidth=1, label=name)
        axes.errorbar(
            shares,
            [each.value for each in bits],
            (below, above),
            fmt="o",
            color=ACCENT,
            markersize=4,
            label="this probe",
        )
        axes.plot(shares, [point.neighbour_bits for point in points], "x", color=CONTROL, label="nearest neighbours")
        axes.set_title(f"{broken(calibration.result.dimension, 24)} (n = {bits[0].n:,})", loc="left", fontsize=9)
        axes.set_xlabel("share of labels flipped")
        axes.spines[["top", "right"]].set_visible(False)
    _show_at_least(panels[0], -LEAST / 2, LEAST)
    for axes in panels[::columns]:
        axes.set_ylabel("bits, held out\n95 % interval")
    legend_below(figure, columns=4)
    first = calibrations[0]
    figure.suptitle(
        f"{first.result.checkpoint.model}, {first.result.checkpoint.caption}, layer {first.layer}", fontsize=9
    )
    return figure


def _title(trajectory: Trajectory) -> str:
    return f"{trajectory.initial.checkpoint.model}: {trajectory.dimension} ({trajectory.initial.statements_source})"


def transfer_matrices(trajectory: Trajectory) -> Figure:
    """Probes of one checkpoint (row) on another's activations (column), as they are and re-centred; then cosines."""
    axis, transfer = _axis(trajectory), trajectory.transfer
    size = min(width(len(axis.labels), 0.34, 1.8, least=2.7), WIDEST_MATRIX)
    figure = Figure(figsize=(3 * size + 1.6, size + 0.9), layout="compressed")
    left, middle, right = figure.subplots(1, 3)
    _matrix(figure, left, transfer.accuracy, axis, f"held-out accuracy (n = {transfer.n:,})", (0.0, 1.0))
    _matrix(figure, middle, transfer.recentred, axis, "the same, each\ncheckpoint's mean removed", (0.0, 1.0))
    another = np.array([[pair.is_another for pair in row] for row in transfer.likeness])
    name = "cosine of mass-mean\ndirections; *: another"
    _matrix(figure, right, transfer.cosine, axis, name, (-1.0, 1.0), another)
    left.set_ylabel(f"probe fitted at: {axis.name}")
    for axes in (left, middle):
        axes.set_xlabel(f"applied at: {axis.name}")
    right.set_xlabel(axis.name)
    model, source = trajectory.initial.checkpoint.model, trajectory.initial.statements_source
    set_heading(
        figure, f"{model}: {trajectory.dimension} ({source}), layer {transfer.layer}; white: chance, no likeness"
    )
    return figure


def _matrix(
    figure: Figure,
    axes: Axes,
    values: np.ndarray,
    axis: TrainingAxis,
    name: str,
    limits: tuple[float, float],
    marked: np.ndarray | None = None,
) -> None:
    image = axes.imshow(values, cmap="RdBu", vmin=limits[0], vmax=limits[1])
    shown = spread(len(axis.labels))
    label_checkpoints(axes, axis, size=7)
    axes.set_yticks(shown, [axis.labels[position] for position in shown], fontsize=7)
    axes.set_title(name, loc="left", fontsize=9)
    if len(axis.labels) <= MOST_NUMBERED:
        for row in range(len(axis.labels)):
            for column in range(len(axis.labels)):
                text = f"{values[row, column]:z.2f}".removeprefix("0").replace("-0.", "−.")
                text += "*" if marked is not None and marked[row, column] else ""
                dark = abs(values[row, column] - sum(limits) / 2) > 0.35 * (limits[1] - limits[0])
                axes.text(column, row, text, ha="center", va="center", fontsize=5.5, color="white" if dark else "black")
    elif marked is not None:
        rows, columns = np.nonzero(marked)
        axes.plot(columns, rows, "*", color="black", markersize=min(3.0, 120 / len(axis.labels)))
    figure.colorbar(image, ax=axes, shrink=0.8)
