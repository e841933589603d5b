"""What decides a calibration: statements or text."""

from types import SimpleNamespace

import pytest

from pipelines.calibrate.experiment import is_by_text
from registry.calibration import Calibration
from registry.errors import InvalidInput


def champion(behaviour):
    calibration = Calibration(-1.0, 1.0, 0.5, 1.34, (), 50, "digest", "run", behaviour)
    return SimpleNamespace(reference="steer.m.toxicity/2", registered=SimpleNamespace(calibration=calibration))


def test_auto_goes_on_as_the_champion_was_calibrated():
    assert not is_by_text("auto", None)
    assert not is_by_text("auto", champion(""))
    assert is_by_text("auto", champion("toxic continuations"))
    assert is_by_text("text", champion(""))
    assert not is_by_text("statements", champion(""))


def test_statements_do_not_decide_of_a_champion_by_text():
    with pytest.raises(InvalidInput, match=r"steer.m.toxicity/2 is champion by toxic continuations .*: give by=text"):
        is_by_text("statements", champion("toxic continuations"))
