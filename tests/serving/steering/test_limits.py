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
    assert "toxicity=1.4, privacy=0.7, fairness=0.7 would fit; lower them, or set `on_exceed`" in str(raised.value)


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


SUMS = {
    "apart": ({(0,): 3.0, (1,): 3.0}, [3.0, 3.0], False),
    "who opposed others gives way above them": (
        {(1,): 3.0, (0, 1): 3.0, (1, 2): -3.0, (2,): -3.0},
        [2.0, 2.0, -1.0, -1.5],
        True,
    ),
    "one of several layers is shared": ({(0, 1): 3.0, (1,): 1.5}, [2.0, 1.0], True),
    "both layers are shared": ({(0, 1): 3.0, (0, 1, 2): 1.5}, [2.0, 1.0], True),
    "the highest layer of both is shared": ({(0, 2): 3.0, (1, 2): 1.5}, [2.0, 1.0], True),
    "alone at its layers": ({(0, 1, 2): 3.0}, [3.0], False),
    "the largest alone is beyond": ({(0, 1): 6.0, (1, 2): 2.0}, [4.5, 1.5], True),
    "the largest alone is beyond at both": ({(0, 1): 6.0, (0, 1, 2): 2.0}, [4.5, 1.5], True),
}
"""By layers the strengths of vectors of one direction, what they are clamped to, and whether they are refused."""


def check_sums(module=limits):
    norms = Limits({0: 9.0, 1: 9.0, 2: 9.0}, 1.0)  # three standard deviations of a scale of 3
    for name, (strengths, clamped, refused) in SUMS.items():
        vectors = [served_vector(f"d{number}", layers) for number, layers in enumerate(strengths)]
        units = {layer: vectors[0].vector.directions[0].unit for layer in (0, 1, 2)}
        given = {}
        for vector, strength in zip(vectors, strengths.values(), strict=True):
            turned = vector.vector.with_units([units[layer] for layer in vector.layers])
            given[f"steering.strengths.{vector.dimension}"] = Add(dataclasses.replace(vector, vector=turned), strength)
        warnings = []
        within = module.clamp_layer_sums(given, norms, "clamp", warnings)
        assert [each.amount for each in within.values()] == pytest.approx(clamped), name
        assert bool(warnings) == refused, name
        if refused:
            with pytest.raises(StrengthOutOfRange, match="adds up to a relative norm of"):
                module.clamp_layer_sums(given, norms, "reject", [])


def test_strengths_add_up_at_each_layer_of_their_vectors():
    check_sums()


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("        within = clamped\n", "        return clamped\n"),
        ("norm = _layer_norm(at_layer.values(),", "norm = _layer_norm([given for p, given in interventions.items()],"),
        ("alone = (_norm_at(interventions[param],", "alone = (_norm_at(within[param],"),
        ("{layer for given in interventions if given.max_shift for layer in given.vector.layers}",
         "{given.vector.layers[0] for given in interventions if given.max_shift}"),
    ],
    ids=["each layer once", "shrunk anew at every layer", "alone after shrinking", "the lowest layer only"],
)  # fmt: skip
def test_the_sums_tell_a_mutant_from_the_rule(passage, replacement):
    with mutant(limits, passage, replacement) as changed, pytest.raises(AssertionError):
        check_sums(changed)


def test_the_norm_of_several_layers_is_the_largest_share():
    vector = served_vector("toxicity", (0, 1))
    assert vector.relative_norm(2.0, {0: 12.0, 1: 4.0}) == pytest.approx(1.5)
    assert Limits({0: 12.0, 1: 4.0}, 1.0).range_of(vector).high == pytest.approx(4 / 3)
