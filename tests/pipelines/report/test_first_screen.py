"""First screen of a report: a user's own dimension alone, and numbers that are nought."""

import pandas as pd
import pytest

from pipelines.report.first_screen import answers
from pipelines.report.page import report_page, shown
from pipelines.report.tracking import ChampionCard, ReportedRun

PROBED = {
    "step": 512, "layer": 3, "accuracy": 0.62, "accuracy_low": 0.58, "accuracy_high": 0.66,
    "selected": "checkpoint and layer chosen on an inner fold",
}  # fmt: skip
CALIBRATED = {"works": True, "strength": 2.0, "shift": -0.001, "low": -0.004, "high": 0.002, "unsteered": None}


def run_of(**tables):
    frames = {f"{name}.csv": pd.DataFrame(rows) for name, rows in tables.items()}
    return ReportedRun("r1", "now", "c1", {}, frames, {})


def probed(*dimensions):
    return run_of(probe=[{**PROBED, "dimension": dimension} for dimension in dimensions])


def test_what_was_not_measured_has_no_column():
    table = answers({"probe": probed("humility")})
    assert list(table.columns) == ["dimension", "best at", "accuracy [95 %]", "above controls"]
    content = report_page("tiny", {"probe": probed("humility")}, (ChampionCard({"dimension": "humility", "why": ""}),))
    assert "<td></td>" not in content.partition("Configuration")[0]


def test_a_cell_that_is_empty_beside_others_says_so():
    calibrated = run_of(calibrated=[{**CALIBRATED, "dimension": "toxicity"}])
    table = answers({"probe": probed("humility", "toxicity"), "calibrate": calibrated}).set_index("dimension")
    assert table.loc["humility", ["effect, nats [95 %]", "works", "strength"]].unique().tolist() == ["not measured"]
    assert table.loc["toxicity", "effect, nats [95 %]"] == "0.00 [0.00, 0.00]"
    assert "untrustworthy answers" not in table


@pytest.mark.parametrize(("value", "written"), [(-0.0, "0"), (0.0, "0"), (-0.00012344, "-0.0001234")])
def test_nought_has_no_sign(value, written):
    assert shown(value) == written
