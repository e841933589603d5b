"""The range of a vector, by what its version says of it."""

import dataclasses

import pytest

from registry.calibration import Calibration
from registry.records import calibration_tags, text_verdict_tags
from serving.steering.limits import Limits
from tests.registry.test_verdicts import VERDICT
from tests.serving.engine.small_models import served_vector

LIMITS = Limits({0: 6.0, 1: 6.0}, 1.0)


def calibrated(recommended=3.0, **tags):
    vector = served_vector()
    calibration = Calibration(-2.0, 6.0, recommended, 1.34, (), 50, "digest", "run")
    more = {**vector.registered.tags, **calibration_tags(calibration), **tags}
    return dataclasses.replace(vector, registered=dataclasses.replace(vector.registered, tags=more))


@pytest.mark.parametrize(("works", "recommended"), [(True, (0.0, 3.0)), (False, (0.0, 0.0))])
def test_what_fails_on_text_is_recommended_at_no_strength(works, recommended):
    verdict = dataclasses.replace(VERDICT, works=works)
    allowed = LIMITS.range_of(calibrated(**text_verdict_tags(verdict)))
    assert allowed.recommended == recommended
    assert (allowed.low, allowed.high, allowed.calibrated) == (-2.0, 6.0, True)


def test_a_damaged_verdict_leaves_the_offset_within_its_norm():
    allowed = LIMITS.range_of(calibrated(text_verdict="{"))
    assert not allowed.calibrated
    assert allowed.high == pytest.approx(2.0)
