"""Figures of an evaluation: what a reader must be able to read in them."""

import numpy as np
import pandas as pd
import pytest

from pipelines.estimators.dynamics import Correlation
from pipelines.estimators.estimate import Estimate
from pipelines.evaluate.conditions import Condition
from pipelines.evaluate.figures import cost_figure, entanglement_figure, tracing_figure
from pipelines.evaluate.measurement import mean_of
from pipelines.evaluate.results import HEADLINE, Row
from pipelines.evaluate.significance import Comparison
from pipelines.evaluate.tracing import TracedCheckpoint, TracedCorrelation
from pipelines.figures.paper import set_for_paper
from registry.checkpoints import Checkpoint
from tests.pipelines.figures.fitting import cut_texts, overlapping_titles

LONG = "acknowledging_limits_of_knowledge"


def rows_at(kind, change, perplexity, dimension="toxicity"):
    condition = Condition(kind, "" if kind == "base" else dimension)
    for metric, scored, value in ((HEADLINE, dimension, change), ("perplexity", "fluency", perplexity)):
        measurement = mean_of(scored, metric, np.zeros(3), np.arange(3), 1)
        estimate = Estimate(value, value - 0.1, value + 0.1, 3)
        yield Row(condition, measurement, Comparison(estimate, estimate, 1.0, None, None))


@pytest.fixture(scope="module")
def cost():
    kinds = ("base", "vector", "reversed", "random", "prompt")
    return cost_figure("tiny", [row for kind in kinds for row in rows_at(kind, 0.5, 20.0)])


def test_conditions_are_named_in_words(cost):
    names = [text.get_text() for text in cost.legends[0].get_texts()]
    assert names == [
        *("vector", "reversed vector", "random direction", "instruction before the text"),
        "1.1 times the perplexity",
    ]


def test_names_of_vectors_are_readable_over_points_and_lines(cost):
    (axes,) = cost.axes
    (name,) = axes.texts
    assert name.get_text() == "toxicity" and name.get_path_effects()
    assert name.get_zorder() > max(line.get_zorder() for line in axes.lines)


def test_what_rounds_to_nothing_has_no_sign_of_its_own():
    table = pd.DataFrame(
        {"steered": ["toxicity"], "scored": ["toxicity"], "difference": [-0.001], "n": [84]}
        | {"difference_low": [-0.234], "difference_high": [-0.004]}
    )
    axes = entanglement_figure("tiny", table).axes[0]
    assert axes.texts[0].get_text() == "+0.00\n[-0.23, +0.00]"
    assert axes.images[0].get_clim() == (-0.234, 0.234)


@pytest.mark.parametrize("names", [[LONG], [LONG, "toxicity"], [LONG, *(f"dimension_{number}" for number in range(7))]])
def test_long_names_of_one_or_eight_dimensions_are_not_cut(names):
    cells = [(steered, scored) for steered in names for scored in names]
    table = pd.DataFrame(cells, columns=["steered", "scored"]).assign(
        difference=0.05, difference_low=-0.1, difference_high=0.2, n=12
    )
    figures = [entanglement_figure("tiny", table), tracing(names)]
    assert [cut_texts(figure) + overlapping_titles(figure) for figure in figures] == [[], []]
    for figure in figures:
        set_for_paper(figure)
    assert [cut_texts(figure) + overlapping_titles(figure) for figure in figures] == [[], []]


def tracing(names):
    estimate = Estimate(0.6, 0.5, 0.7, 80)
    checkpoint = Checkpoint("tiny", "", "step_2000", 2000)
    traced = [TracedCheckpoint(name, checkpoint, 2, estimate, estimate) for name in names]
    changes = Correlation(0.5, -0.2, 0.9, 12)
    return tracing_figure("tiny", traced, [TracedCorrelation(name, changes) for name in names])
