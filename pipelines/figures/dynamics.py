"""Whether what is found at one checkpoint is the same at another: accuracy and cosine of every two."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.sweep.information_course import Course


def transfer_matrices(course: Course) -> Figure:
    """Probes of one checkpoint (row) on another's activations (column), as they are and re-centred; then cosines."""
    steps, transfer = course.steps, course.transfer
    size = 1.8 + 0.34 * len(steps)
    figure = Figure(figsize=(3 * size + 1.6, size + 0.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _matrix(figure, left, transfer.accuracy, steps, f"held-out accuracy (n = {transfer.n})", (0.0, 1.0))
    _matrix(figure, middle, transfer.recentred, steps, "the same, each checkpoint's mean removed", (0.0, 1.0))
    _matrix(figure, right, transfer.cosine, steps, "cosine of mass-mean directions", (-1.0, 1.0))
    left.set_ylabel("probe fitted at step")
    for axes in (left, middle):
        axes.set_xlabel("applied at step")
    right.set_xlabel("pre-training step")
    model, source = course.initial.checkpoint.model, course.initial.statements_source
    figure.suptitle(
        f"{model}: {course.dimension} ({source}), layer {transfer.layer}; white: chance, no likeness",
        fontsize=10,
        x=0.02,
        ha="left",
    )
    return figure


def _matrix(
    figure: Figure,
    axes: Axes,
    values: np.ndarray,
    steps: tuple[int, ...],
    name: str,
    limits: tuple[float, float],
) -> None:
    image = axes.imshow(values, cmap="RdBu", vmin=limits[0], vmax=limits[1])
    ticks, labels = range(len(steps)), [f"{step:,}" for step in steps]
    axes.set_xticks(ticks, labels, rotation=45, ha="right", fontsize=7)
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set_title(name, loc="left", fontsize=9)
    if len(steps) <= 16:
        for row in ticks:
            for column in ticks:
                shown = f"{values[row, column]:.2f}".removeprefix("0").replace("-0.", "−.")
                dark = abs(values[row, column] - sum(limits) / 2) > 0.35 * (limits[1] - limits[0])
                axes.text(
                    column, row, shown, ha="center", va="center", fontsize=5.5, color="white" if dark else "black"
                )
    figure.colorbar(image, ax=axes, shrink=0.8)
