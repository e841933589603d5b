"""The champions of several dimensions at once."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.calibrate import joint
from pipelines.calibrate.joint import JointEffect, JointMember, joint_offsets, measure_joint
from pipelines.estimators.estimate import Estimate
from registry.errors import InvalidInput
from registry.joint import JointLimit
from tests.mutants import mutant
from tests.pipelines.calibrate.test_search import model as model
from tests.pipelines.calibrate.test_search import texts, towards
from tests.serving.engine.small_models import served_vector


def member(model, dimension, strength, word="kind", other="cruel", layer=2):
    given = texts(model)
    registered = served_vector(dimension).registered
    return JointMember(registered, towards(model, word, other, 0.02, layer=layer), strength, given, given)


class Made:
    """Three members whose costs and effects are known: the first costs most, and takes from the second's effect."""

    def __init__(self, *, most, value=0.0):
        self.members = [Texted(None, None, 1.0, str(place), str(place)) for place in range(3)]
        self.most, self.value = most, value

    def cost(self, _model, offsets):
        high = 3 * offsets[0] + offsets[1] + offsets[2]
        return Estimate(high - self.value, 1.0, high / self.most * joint.JOINT_CHEAP, 9)

    def kept(self, _model, _members, scales, _alone, texts):
        first, second, third = scales
        return (1.2 * first, 0.9 * second - 0.3 * first, third)[int(texts)]

    def scales(self, changed, monkeypatch):
        given = ("_kept", self.kept), ("_alone", lambda *_: 1.0), ("joint_offsets", lambda _members, scales: scales)
        for name, made in given:
            monkeypatch.setattr(changed, name, made)
        return changed._allowed_scales(None, self.members, self)


@dataclasses.dataclass
class Texted:
    """A member's halves, which are all that a choice of scales asks for."""

    registered: object
    candidate: object
    strength: float
    validation: str
    test: str


GIVEN_WAY = {
    6.0: (0.7, 1.0, 1.0),
    5.0: (0.7, 1.0, 1.0),
    3.85: (0.6, 1.0, 1.0),
    3.2: (0.5, 1.0, 0.7),
    2.05: (0.3, 0.6, 0.4),
    1.25: (0.25, 0.25, 0.25),
    0.5: (0.25, 0.25, 0.25),
}
"""By what they may cost: who keeps most gives way until that is cheap, and while the least kept grows by it."""


@pytest.mark.parametrize("most", GIVEN_WAY)
def test_who_keeps_most_gives_way_first(most, monkeypatch):
    assert Made(most=most).scales(joint, monkeypatch) == GIVEN_WAY[most]


GIVING_MUTANTS = {
    "who keeps least gives way": ("max(able,", "min(able,"),
    "by the value": (".high <= JOINT_CHEAP", ".value <= JOINT_CHEAP"),
    "at the limit": (".high <= JOINT_CHEAP", ".high < JOINT_CHEAP"),
    "no further than cheap": (") > min(kept):", ") > 9:"),
    "nothing is taken back": ("while steps[least] and", "while False and"),
    "who keeps most takes back": ("least = min(", "least = max("),
}


@pytest.mark.parametrize("name", GIVING_MUTANTS)
def test_the_scales_tell_a_mutant_from_the_rule(name, monkeypatch):
    with mutant(joint, *GIVING_MUTANTS[name]) as changed:
        found = {most: Made(most=most, value=5.0).scales(changed, monkeypatch) for most in GIVEN_WAY}
    assert found != GIVEN_WAY


def test_the_limit_holds_the_strengths_of_all_together(model):
    members = [member(model, "toxicity", 2.0), member(model, "privacy", 1.0, layer=1)]
    limit = JointEffect(tuple(members), (0.6, 0.85), Estimate(1.12, 1.0, 1.2, 9), kept_of(0.9, 0.8)).to_limit("run")
    assert limit.kept == {"toxicity": 0.9, "privacy": 0.8}
    assert limit.strengths == {"toxicity": 2.0, "privacy": 1.0}
    assert limit.together == {"toxicity": pytest.approx(1.2), "privacy": 0.85}
    shares = [limit.share(*member) for member in limit.together.items()]
    assert limit.most == 2 and limit.scale == pytest.approx(0.725)
    assert sum(shares) == pytest.approx(2) and not limit.is_exceeded_by(shares)
    assert limit.perplexity_ratio == 1.12
    assert type(limit).from_json(limit.to_json()) == limit


def test_a_limit_of_before_has_one_scale_for_all():
    limit = JointLimit.from_json(
        '{"strengths":{"toxicity":2.0,"privacy":1.0},"scale":0.7,"perplexity_ratio":1.1,"kept":{},"run_id":"r"}'
    )
    assert limit.together == {"toxicity": pytest.approx(1.4), "privacy": 0.7}
    shares = [limit.share(*member) for member in limit.together.items()]
    assert sum(shares) == pytest.approx(limit.most) and not limit.is_exceeded_by(shares)


@pytest.mark.parametrize("scales", [{"toxicity": 1.0}, {"toxicity": 1.2, "privacy": 1.0}, {"toxicity": 1.0, "x": 1.0}])
def test_scales_of_others_or_beyond_one_are_refused(scales):
    with pytest.raises(InvalidInput, match="scales"):
        JointLimit({"toxicity": 2.0, "privacy": 1.0}, 0.7, 1.1, {}, "r", scales)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan"), float("inf")])
def test_strengths_that_would_limit_nothing_are_refused(strength):
    with pytest.raises(InvalidInput, match="no joint limit has strengths"):
        JointLimit({"toxicity": 2.0, "privacy": strength}, 0.7, 1.1, {}, "r")


def test_one_champion_has_no_joint_limit(model):
    assert measure_joint(model, [member(model, "toxicity", 2.0)], ()) is None
    assert measure_joint(model, [], ()) is None


def test_offsets_of_one_layer_add_up(model):
    members = [
        member(model, "toxicity", 2.0),
        member(model, "privacy", 1.0, "Paris", "you"),
        member(model, "x", 3.0, layer=1),
    ]
    offsets = joint_offsets(members, (0.5, 0.25, 1.0))
    assert set(offsets) == {1, 2}
    first, second, third = (each.candidate for each in members)
    expected = 0.5 * 2.0 * first.unit_offsets[2] + 0.25 * 1.0 * second.unit_offsets[2]
    assert np.allclose(offsets[2].numpy(), expected, atol=1e-7)
    assert np.allclose(offsets[1].numpy(), 3.0 * third.unit_offsets[1], atol=1e-7)
    several = dataclasses.replace(first, unit_offsets={0: third.unit_offsets[1], 2: first.unit_offsets[2]})
    offsets = joint_offsets([dataclasses.replace(members[0], candidate=several), members[1]], (0.5, 1.0))
    assert set(offsets) == {0, 2}
    assert np.allclose(offsets[0].numpy(), 0.5 * 2.0 * third.unit_offsets[1], atol=1e-7)
    assert np.allclose(offsets[2].numpy(), first.unit_offsets[2] + second.unit_offsets[2], atol=1e-7)


def test_an_opposite_champion_takes_the_effect_away(model):
    good, bad = member(model, "toxicity", 2.0), member(model, "privacy", 1.9, "cruel", "kind")
    effect = measure_joint(model, [good, bad], ())
    assert effect.kept[0].high < 0.2
    assert not effect.holds
    assert "asked for were 70% of each at 1.15 times at most" in effect.describe()
    twice = measure_joint(model, [good, dataclasses.replace(good, registered=served_vector("privacy").registered)], ())
    assert twice.scales == (1, 1)
    assert min(kept.low for kept in twice.kept) > 1.3


ALONE, TOGETHER = np.repeat([1.0, 0.0, -1.0], (60, 58, 2)), np.repeat([1.0, 0.0], (29, 91))
"""By how much 120 answers became trustworthy: 58 in all, and half as many."""


def written_share(model, alone, together, module=joint):
    falls = SimpleNamespace(prompts=range(len(alone)), falls=lambda _model, _settings: (alone, together))
    given = member(model, "privacy", 2.0)
    return module.kept_share(model, dataclasses.replace(given, test=SimpleNamespace(writing=falls)), [given], [0.5])


def check_shares(model, module=joint):
    share = written_share(model, ALONE, TOGETHER, module)
    assert share.value == pytest.approx(0.5) and share.n == 120
    assert 0.36 < share.low < 0.42 and 0.58 < share.high < 0.66
    assert written_share(model, -ALONE, TOGETHER, module).value == 0
    given = member(model, "toxicity", 2.0)
    preferred = module.kept_share(model, given, [given], [0.5])
    alone, half = joint.shifts(model, given.test, [joint_offsets([given], [scale]) for scale in (1.0, 0.5)])
    assert preferred.value == pytest.approx(half / alone) and preferred.low < preferred.value < preferred.high


def test_what_is_kept_has_an_interval(model):
    check_shares(model)


@pytest.mark.parametrize(
    "change",
    [
        ("np.concatenate([together, alone]", "np.concatenate([alone, together]"),
        ("alone.mean(axis=0)) <= 0", "alone.mean(axis=0)) <= -1"),
        ("joint_offsets(members, scales)]\n    if", "joint_offsets(members, [1.0])]\n    if"),
    ],
)
def test_a_mutant_keeps_another_share(model, change):
    with mutant(joint, *change) as changed, pytest.raises(AssertionError):
        check_shares(model, changed)


def kept_of(*shares):
    return tuple(Estimate(share, 0.0, 3.0, 9) for share in shares)


def holds(kind, kept, ratio):
    return kind((), (), Estimate(ratio, ratio, ratio, 9), kept_of(*kept)).holds


TABLE = {
    ((0.7, 0.9), 1.15): True,
    ((0.69, 2.0), 1.0): False,
    ((2.0, 0.69), 1.0): False,
    ((1.0, 1.0), 1.151): False,
}
MUTANTS = {
    "the best is kept": ("min(kept.value for kept in self.kept)", "max(kept.value for kept in self.kept)"),
    "the interval's end": ("min(kept.value for kept in self.kept)", "min(kept.high for kept in self.kept)"),
    "without the cost": (" and self.perplexity.value <= JOINT_CHEAP\n", "\n"),
    "more than was asked": (">= LEAST_KEPT", "> LEAST_KEPT"),
}


def test_every_dimension_keeps_its_share_at_little_cost():
    assert {case: holds(JointEffect, *case) for case in TABLE} == TABLE


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_from_the_rule(name):
    with mutant(joint, *MUTANTS[name]) as changed:
        assert {case: holds(changed.JointEffect, *case) for case in TABLE} != TABLE
