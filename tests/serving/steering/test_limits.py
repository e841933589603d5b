"""The range of a vector, by what its version says of it."""

import dataclasses

import pytest

from registry import joint, records
from registry.calibration import Calibration
from registry.joint import JointLimit
from registry.records import calibration_tags, joint_limit_tags, text_verdict_tags
from serving.steering import limits
from serving.steering.errors import StrengthOutOfRange
from serving.steering.limits import Limits
from serving.steering.plan import Add
from tests.mutants import mutant
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


JOINT = JointLimit({"toxicity": 2.0, "privacy": 1.0, "fairness": 1.0}, 0.7, 1.15, {}, "run")


def members(limit=JOINT, **strengths):
    interventions = {}
    for dimension, strength in strengths.items():
        vector = served_vector(dimension)
        calibration = Calibration(-6.0, 6.0, JOINT.strengths[dimension], 1.34, (), 50, "digest", "run")
        tags = {**vector.registered.tags, **calibration_tags(calibration), **joint_limit_tags(limit)}
        vector = dataclasses.replace(vector, registered=dataclasses.replace(vector.registered, tags=tags))
        interventions[f"steering.strengths.{dimension}"] = Add(vector, strength)
    return interventions


def amounts(on_exceed, given, module=limits):
    """The strengths, and whether there was a warning; ``None`` where they are refused."""
    warnings = []
    try:
        within = module.clamp_to_joint_limit(given, on_exceed, warnings)
    except StrengthOutOfRange:
        return None
    return [round(each.amount, 4) for each in within.values()], bool(warnings)


JOINTLY = {
    "as measured together": (dict(toxicity=1.4, privacy=0.7, fairness=0.7), ([1.4, 0.7, 0.7], False), False),
    "two at full strength": (dict(toxicity=2.0, privacy=1.0), ([2.0, 1.0], False), False),
    "three at full strength": (dict(toxicity=2.0, privacy=1.0, fairness=1.0), ([1.4, 0.7, 0.7], True), True),
    "backwards counts too": (dict(toxicity=-2.0, privacy=1.0, fairness=1.0), ([-1.4, 0.7, 0.7], True), True),
    "alone as far as its range": (dict(toxicity=6.0), ([6.0], False), False),
    "alone beside others at 0": (dict(toxicity=6.0, privacy=0.0), ([6.0, 0.0], False), False),
    "another beside the largest": (dict(toxicity=6.0, privacy=1.0), ([3.15, 0.525], True), True),
}


def check_jointly(module=limits):
    for name, (strengths, clamped, refused) in JOINTLY.items():
        given = members(**strengths)
        assert amounts("clamp", given, module) == clamped, name
        assert amounts("reject", members(**dict(zip(strengths, clamped[0], strict=True))), module), name
        assert (amounts("reject", given, module) is None) == refused, name
        kept, warned = amounts("warn", given, module)
        assert kept == list(strengths.values()) and warned == refused, name


def test_champions_together_stay_within_what_was_measured():
    check_jointly()
    with pytest.raises(StrengthOutOfRange) as raised:
        limits.clamp_to_joint_limit(members(toxicity=2.0, privacy=1.0, fairness=1.0), "reject", [])
    assert raised.value.param == "steering.strengths.toxicity"
    assert "each over that at which all were measured together (perplexity 1.15x), add up to 4.29, over 3" in str(
        raised.value
    )
    assert "toxicity=1.4, privacy=0.7, fairness=0.7 would fit; lower it, or set `on_exceed`" in str(raised.value)


def test_a_limit_of_other_strengths_or_damaged_does_not_hold():
    other = JointLimit({"toxicity": 3.0, "privacy": 3.0, "fairness": 3.0}, 0.1, 1.15, {}, "run")
    assert amounts("reject", members(other, toxicity=2.0, privacy=1.0)) == ([2.0, 1.0], False)
    given = members(toxicity=2.0, privacy=1.0, fairness=1.0)
    for intervention in given.values():
        intervention.vector.registered.tags["joint_limit"] = "{}"
    assert amounts("reject", given) == ([2.0, 1.0, 1.0], False)


MUTANTS = {
    "never clamped": ("given.shrunk(factor)", "given"),
}
MUTANTS_OF_THE_LIMIT = {
    "one alone is no exception": ("several and sum", "sum"),
    "each alone": ("several and sum(shares) >", "several and max(shares) >"),
    "a strength of 0 counts": ("share > 0 for", "share >= 0 for"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_from_the_limit(name):
    with mutant(limits, *MUTANTS[name]) as changed, pytest.raises((AssertionError, TypeError)):
        check_jointly(changed)


@pytest.mark.parametrize("name", MUTANTS_OF_THE_LIMIT)
def test_the_table_tells_a_limit_from_a_mutant(name, monkeypatch):
    with mutant(joint, *MUTANTS_OF_THE_LIMIT[name]) as changed:
        monkeypatch.setattr(records, "JointLimit", changed.JointLimit)
        with pytest.raises((AssertionError, TypeError)):
            check_jointly(limits)
