"""Figure of vectors: rows at one checkpoint, panels over training, with the controls in each."""

import numpy as np
import pandas as pd
import pytest

from pipelines.figures.style import MOST_TICKS
from pipelines.vectors.figures import MOST_LINES, method_chart

METHODS = ("mass-mean", "lda", "random", "shuffled")
PYTHIA = (0, *(2**power for power in range(10)), *range(1000, 144_000, 1000))


def table(steps, layers=(2,), tokens=None):
    rows = [
        (step, layer, method, 0.5 + 0.1 * METHODS.index(method), f"step{step}", tokens and tokens * step)
        for step in steps
        for layer in layers
        for method in METHODS
    ]
    frame = pd.DataFrame(rows, columns=["step", "layer", "method", "auroc", "revision", "tokens"])
    bounds = {"auroc_low": frame["auroc"] - 0.05, "auroc_high": frame["auroc"] + 0.05}
    return frame.assign(model="tiny", dimension="toxicity", n_test=160, **bounds).astype({"tokens": "Int64"})


def test_one_checkpoint_is_a_row_a_vector():
    (axes,) = method_chart(table([2000]), "toxicity").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{name}, layer 2" for name in METHODS[::-1]]


@pytest.mark.parametrize("steps", [(0, 8, 64), PYTHIA])
def test_several_checkpoints_are_a_panel_a_method_on_one_axis(steps):
    figure = method_chart(table(steps), "toxicity")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["mass-mean", "lda"]
    for axes in figure.axes:
        assert axes.get_xscale() == "symlog"
        assert len(axes.get_xticks()) <= MOST_TICKS
        assert axes.get_xlabel() == "pre-training step"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["chance", "controls (random, shuffled)", "fitted vector"]


def test_tokens_are_the_axis_where_they_are_known():
    figure = method_chart(table((0, 8, 64), tokens=1000), "toxicity")
    assert {axes.get_xlabel() for axes in figure.axes} == {"tokens seen in pre-training"}


def test_of_many_layers_some_are_drawn_and_named():
    figure = method_chart(table((0, 8, 64), layers=range(12)), "toxicity")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    layers = [label for label in labels if label.startswith("layer")]
    assert len(layers) == MOST_LINES and layers[0] == "layer 0" and layers[-1] == "layer 11"
    lines = [line for line in figure.axes[0].lines if line.get_label() == "layer 11"]
    np.testing.assert_array_equal(lines[0].get_xdata(), [0, 8, 64])
