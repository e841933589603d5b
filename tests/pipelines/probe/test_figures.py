import numpy as np
import pytest
from matplotlib.figure import Figure

from pipelines.probe.controls import measure_floors
from pipelines.probe.figures import curve
from pipelines.probe.selection import select_layer
from pipelines.statements.labelled import LabelledStatements
from tests.pipelines.probe.units import PROTOCOL, unit


@pytest.fixture(scope="module")
def statements():
    texts = tuple(f"statement {number}" for number in range(80))
    return LabelledStatements("toxicity", texts, np.tile([True, False], 40), np.arange(80) // 2, "small.csv")


def drawn(statements, places, repeated=()) -> Figure:
    rng = np.random.default_rng(0)
    selected = [
        select_layer(
            unit(statements, rng.normal(size=(2, 80, 4)), step, stage=stage, weights=weights), statements, PROTOCOL
        )
        for (stage, step), weights in zip(places, repeated or [None] * len(places), strict=True)
    ]
    return curve(selected, measure_floors(statements, PROTOCOL), selected[0])


@pytest.mark.parametrize(
    ("places", "scale"),
    [
        ([("", 0), ("", 8), ("", 64)], "symlog"),
        ([("", 0)], "symlog"),
        ([("stage1", 0), ("stage1", 64), ("stage2", 8)], "linear"),
    ],
)
def test_checkpoints_lie_in_the_order_of_training(statements, places, scale):
    (axes,) = drawn(statements, places).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    positions = list(lines["shuffled labels"].get_xdata())
    assert positions == sorted(set(positions))
    assert axes.get_xscale() == scale
    assert list(lines["random initialisation"].get_xdata()) == [0, 1]  # of the whole axis


def test_equal_weights_are_hollow_and_off_the_line(statements):
    (axes,) = drawn(statements, [("", 0), ("", 8), ("", 64)], ["a", "a", "b"]).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["linear probe"].get_xdata()) == [0, 64]
    hollow = lines["hollow: weights of an earlier checkpoint"]
    assert (list(hollow.get_xdata()), hollow.get_fillstyle()) == ([8], "none")
    assert list(lines["shuffled labels"].get_xdata()) == [0, 64]


@pytest.mark.parametrize("apart", [0, 12])
def test_a_saturated_curve_has_its_fragility_beside_it(statements, apart):
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(3, 2, 80, 4)) + apart * statements.labels[:, None]
    hidden[2] += 2 * apart * statements.labels[:, None]
    selected = [
        select_layer(unit(statements, layers, step), statements, PROTOCOL)
        for step, layers in zip((0, 8, 64), hidden, strict=True)
    ]
    figure = curve(selected, measure_floors(statements, PROTOCOL), selected[0])
    assert len(figure.axes) == (2 if apart else 1)
    if apart:
        (line,) = figure.axes[1].get_lines()
        assert list(line.get_ydata()) == [probe.saturation.fragility.value for probe in selected]
        assert "noise that leaves .75 (right)" in figure.axes[0].get_legend_handles_labels()[1]
