"""Figures of long series stay legible."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipelines.figures.paper import set_for_paper
from pipelines.figures.style import (
    MARKED,
    MOST_TICKS,
    WIDEST,
    draw_curve,
    draw_training_axis,
    label_checkpoints,
    legend_below,
    set_title,
    spread,
    width,
)
from pipelines.figures.style import Figure as Drawn
from pipelines.figures.text_tables import latex_table, markdown_table
from pipelines.figures.training_axis import TrainingAxis

PYTHIA = [0, *(2**power for power in range(10)), *range(1000, 144_000, 1000)]


def axis_of(steps):
    return TrainingAxis.of_steps(steps, [None] * len(steps))


def drawn(steps):
    axes = Figure(figsize=(6.4, 4), layout="constrained").subplots()
    axes.plot(steps, range(len(steps)))
    return axes


@pytest.mark.parametrize("steps", [PYTHIA, [0, 10, 100], [143_000], list(range(0, 360_000, 1000))])
def test_a_step_axis_has_few_ticks_and_the_last_step(steps):
    axes = drawn(steps)
    draw_training_axis(axes, axis_of(steps))
    ticks = list(axes.get_xticks())
    assert 1 <= len(ticks) <= MOST_TICKS + 1
    assert ticks[-1] == steps[-1] and set(ticks) <= set(steps)


@pytest.mark.parametrize("steps", [PYTHIA, [0, 10, 100], [8, 2000]])
def test_a_step_axis_begins_at_the_first_step(steps):
    axes = drawn(steps)
    axes.axvspan(-1, 0)  # as lines over the whole axis may widen it
    draw_training_axis(axes, axis_of(steps))
    first, last = axes.transData.transform([(steps[0], 0), (steps[-1], 0)])[:, 0]
    left, right = axes.bbox.x0, axes.bbox.x1
    assert (first - left) / (right - left) == pytest.approx(0.03 / 1.06, abs=0.01)
    assert (right - last) / (right - left) == pytest.approx(0.03 / 1.06, abs=0.01)


def test_labels_of_a_step_axis_do_not_meet():
    axes = drawn(PYTHIA)
    draw_training_axis(axes, axis_of(PYTHIA))
    axes.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(after.x1 - before.x1 > 10 for before, after in pairwise(boxes))


def test_a_legend_stands_below_the_data_and_fits_any_width():
    figure = Drawn(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number in range(7):
        axes.plot([0, 1], [number, number], label=f"noise that leaves .75, curve {number} (right)")
    legend_below(figure, columns=3)
    columns = []
    for narrow in (False, True):
        if narrow:
            set_for_paper(figure)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width and box.y1 <= axes.get_tightbbox().y0
        columns.append(round(box.height))
        assert axes.get_window_extent().height > 0.35 * figure.bbox.height
    assert columns[1] > columns[0]


def test_a_long_title_ends_within_the_figure():
    axes = drawn([0, 10])
    set_title(axes, "an-organisation/a-model-of-a-long-name-7b-instruct: toxicity (file:toxicity.csv), deep layer")
    axes.figure.draw_without_rendering()
    box = axes._left_title.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= axes.figure.bbox.width and box.y1 <= axes.figure.bbox.height


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 12, 13, 18, 24, 154, 360])
def test_labelled_positions_are_equally_far_apart(count):
    places = spread(count)
    assert (places[0], places[-1]) == (0, count - 1) and len(places) <= MOST_TICKS
    *regular, last = [after - before for before, after in pairwise(places)] or [1]
    assert len(set(regular)) <= 1
    assert not regular or 0.5 * regular[0] <= last <= 1.5 * regular[0]


def test_lines_of_many_checkpoints_have_no_markers():
    axes = Figure().subplots()
    for count in (MARKED, MARKED + 1):
        draw_curve(axes, range(count), range(count), np.full(count, True), colour="black", label=f"{count}")
    assert [line.get_marker() for line in axes.get_lines()] == ["o", "None"]


def test_heat_maps_of_many_checkpoints_are_bounded():
    assert width(360, 0.62, 1.8) == WIDEST
    assert width(4, 0.62, 1.8) < WIDEST
    axes = drawn(range(360))
    label_checkpoints(axes, axis_of(range(0, 360_000, 1000)))
    assert [label.get_text() for label in axes.get_xticklabels()][:: MOST_TICKS - 1] == ["0", "359,000"]


def test_tables_are_escaped_for_their_language():
    header, rows = ("95 %", "n_gram"), [("a|b", "x & y")]
    assert markdown_table(header, rows).endswith("| a/b | x & y |")
    assert r"95 \% & n\_gram \\" in latex_table(header, rows)
    assert r"a|b & x \& y \\" in latex_table(header, rows)
