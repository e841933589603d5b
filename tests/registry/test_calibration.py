import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.calibration import Calibration, CalibrationPoint, HeldOutEffect
from registry.errors import CorruptFile, InvalidInput

POINTS = (CalibrationPoint(0.0, 1.0, 0.0, 0.0, 0.0), CalibrationPoint(2.0, 1.05, 0.4, 0.3, 0.5))
WHOLE = Calibration(-2.0, 4.0, 2.0, 1.34, POINTS, n=96, statements_digest="abc", run_id="run")


@given(st.text(max_size=40))
@settings(deadline=None)
def test_what_is_no_calibration_is_refused_in_one_way(text):
    with pytest.raises(CorruptFile, match="calibrate the vector again"):
        Calibration.from_json(text)


def test_it_survives_a_round_trip():
    assert Calibration.from_json(WHOLE.to_json()) == WHOLE
    tested = HeldOutEffect(True, 2.0, "toxic continuations", 0.1, 0.05, 0.15, 120, 0.02, 1.05, unsteered=0.3)
    whole = dataclasses.replace(WHOLE, tested=tested)
    assert Calibration.from_json(whole.to_json()) == whole


def test_one_of_before_the_tested_effect_was_kept_is_read():
    old = json.loads(WHOLE.to_json())
    del old["tested"]
    assert Calibration.from_json(json.dumps(old)) == WHOLE


def test_it_says_which_strengths_are_safe():
    assert [WHOLE.allows(strength) for strength in (-2.1, -2.0, 0.0, 4.0, 4.1)] == [False, True, True, True, False]


@pytest.mark.parametrize("change", [{"low": 0.5}, {"high": -1.0}, {"recommended": 5.0}, {"high": float("nan")}])
def test_a_range_without_zero_or_its_recommendation_is_no_range(change):
    with pytest.raises(InvalidInput):
        dataclasses.replace(WHOLE, **change)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("n",), "96"), (("n",), True), (("behaviour",), None), (("low",), False), (("run_id",), 5),
        (("points", 0, "shift"), None), (("points", 0, "strength"), "0"),
        (("tested", "works"), "no"), (("tested", "works"), 0), (("tested", "shift"), "x"),
        (("tested", "unsteered"), "x"),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_refused(place, value):
    tested = HeldOutEffect(True, 2.0, "toxic continuations", 0.1, 0.05, 0.15, 120, 0.02, 1.05, unsteered=0.3)
    content = json.loads(dataclasses.replace(WHOLE, tested=tested).to_json())
    part = content
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    with pytest.raises(CorruptFile, match=f"{place[-1]} is .*; calibrate the vector again"):
        Calibration.from_json(json.dumps(content))


def test_what_cannot_be_told_stays_readable():
    untold = dataclasses.replace(POINTS[1], shift_low=-math.inf, shift_high=math.inf)
    whole = dataclasses.replace(WHOLE, points=(untold,))
    assert Calibration.from_json(whole.to_json()) == whole
