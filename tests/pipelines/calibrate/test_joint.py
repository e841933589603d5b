"""The champions of several dimensions at once."""

import dataclasses

import numpy as np
import pytest

from pipelines.calibrate import joint
from pipelines.calibrate.joint import JointEffect, JointMember, joint_offsets, measure_joint
from pipelines.estimators.estimate import Estimate
from tests.mutants import mutant
from tests.pipelines.calibrate.test_search import model as model
from tests.pipelines.calibrate.test_search import texts, towards
from tests.serving.engine.small_models import served_vector


def member(model, dimension, strength, word="kind", other="cruel", layer=2):
    given = texts(model)
    registered = served_vector(dimension).registered
    return JointMember(registered, towards(model, word, other, 0.02, layer=layer), strength, given, given)


def test_the_largest_scale_that_is_cheap_is_chosen(model, monkeypatch):
    members = [member(model, "toxicity", 2.0), member(model, "privacy", 1.0, layer=1)]
    costs = {1.0: 1.30, 0.85: 1.16, 0.7: 1.15, 0.5: 1.01}
    asked = []

    def cost(_model, _texts, _members, scale):
        asked.append(scale)
        return Estimate(costs[scale], 1.0, 2.0, 9)

    monkeypatch.setattr(joint, "_cost", cost)
    effect = measure_joint(model, members)
    assert effect.scale == 0.7
    assert asked == [1.0, 0.85, 0.7, 0.7]
    limit = effect.to_limit("run")
    assert limit.strengths == {"toxicity": 2.0, "privacy": 1.0}
    assert limit.budget == pytest.approx(1.4)
    assert limit.perplexity_ratio == 1.15
    assert type(limit).from_json(limit.to_json()) == limit


def test_one_champion_has_no_joint_limit(model):
    assert measure_joint(model, [member(model, "toxicity", 2.0)]) is None
    assert measure_joint(model, []) is None


def test_offsets_of_one_layer_add_up(model):
    members = [
        member(model, "toxicity", 2.0),
        member(model, "privacy", 1.0, "Paris", "you"),
        member(model, "x", 3.0, layer=1),
    ]
    offsets = joint_offsets(members, 0.5)
    assert set(offsets) == {1, 2}
    first, second, third = (each.candidate for each in members)
    expected = 0.5 * 0.02 * (2.0 * first.unit + 1.0 * second.unit)
    assert np.allclose(offsets[2].numpy(), expected, atol=1e-7)
    assert np.allclose(offsets[1].numpy(), 0.5 * 0.02 * 3.0 * third.unit, atol=1e-7)


def test_an_opposite_champion_takes_the_effect_away(model):
    good, bad = member(model, "toxicity", 2.0), member(model, "privacy", 1.9, "cruel", "kind")
    effect = measure_joint(model, [good, bad])
    assert effect.kept[0] < 0.2
    assert not effect.holds
    assert "asked for were 70% of each at 1.15 times at most" in effect.describe()
    twice = measure_joint(model, [good, dataclasses.replace(good, registered=served_vector("privacy").registered)])
    assert twice.scale == 1
    assert min(twice.kept) > 1.3


def holds(kind, kept, ratio):
    return kind((), 1.0, Estimate(ratio, ratio, ratio, 9), kept).holds


TABLE = {
    ((0.7, 0.9), 1.15): True,
    ((0.69, 2.0), 1.0): False,
    ((2.0, 0.69), 1.0): False,
    ((1.0, 1.0), 1.151): False,
}
MUTANTS = {
    "the best is kept": ("min(self.kept)", "max(self.kept)"),
    "without the cost": (" and self.perplexity.value <= JOINT_CHEAP\n", "\n"),
    "more than was asked": (">= LEAST_KEPT", "> LEAST_KEPT"),
}


def test_every_dimension_keeps_its_share_at_little_cost():
    assert {case: holds(JointEffect, *case) for case in TABLE} == TABLE


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_from_the_rule(name):
    with mutant(joint, *MUTANTS[name]) as changed:
        assert {case: holds(changed.JointEffect, *case) for case in TABLE} != TABLE
