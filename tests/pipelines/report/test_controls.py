"""Controls of probing in a report: beaten by intervals, and by nothing that an older run lacks."""

import pandas as pd
import pytest

from pipelines.report.controls import ProbeControls
from pipelines.report.first_screen import answers
from pipelines.report.tracking import ReportedRun

BEST = {
    "dimension": "toxicity", "step": 512, "layer": 3, "accuracy": 0.62, "accuracy_low": 0.58, "accuracy_high": 0.66,
    "ngram_floor": 0.55, "random_init": 0.52, "selected": "checkpoint and layer chosen on an inner fold",
}  # fmt: skip


def control(name, high, layer=None, seed=None):
    return {"dimension": "toxicity", "control": name, "layer": layer, "seed": seed, "accuracy_high": high}


def said(floor_high, initial_high, of_the_choice=None):
    rows = [
        control("ngram_floor", floor_high),
        control("ngram_floor", 0.99, seed=0),  # of one split
        control("random_init", initial_high, layer=3),
        control("random_init", 0.99, layer=2),
    ]
    tables = {
        "probe.csv": pd.DataFrame([{**BEST, "random_init_high": of_the_choice}]),
        "controls.csv": pd.DataFrame(rows),
    }
    run = ReportedRun("r1", "now", "c1", {}, tables, {})
    return answers({"probe": run})["above controls"].item()


@pytest.mark.parametrize(
    ("highs", "expected"),
    [
        ((0.57, 0.57), "yes"),
        ((0.59, 0.57), "no"),  # though the point .55 lies below
        ((0.57, 0.59), "no"),
        ((0.57, 0.59, 0.57), "yes"),  # the initialisation's own choice of a layer counts before that of one layer
        ((0.57, 0.57, 0.59), "no"),
    ],
)
def test_intervals_and_not_points_are_compared(highs, expected):
    assert said(*highs) == expected


def test_a_run_without_intervals_of_its_controls_cannot_be_told():
    run = ReportedRun("r1", "now", "c1", {}, {"probe.csv": pd.DataFrame([BEST])}, {})
    assert answers({"probe": run})["above controls"].item() == "cannot be told"
    assert ProbeControls.of(run) == ProbeControls({}, {})
