"""A request's steering on a live bank: what it becomes, and what it is refused with."""

from dataclasses import replace

import numpy as np
import pytest

from registry.errors import Mismatch
from serving.steering.bank import SteeringBank
from serving.steering.catalog import RegistryHealth, ServedVectors
from serving.steering.errors import (
    InvalidSteering,
    SteeringNotReady,
    StrengthOutOfRange,
    VectorNotServed,
    VectorRefused,
)
from serving.steering.limits import Limits
from serving.steering.plan import ProbeCondition, Project, TokenScope
from serving.steering.request import DimensionSteering, SteeringRequest, VectorSteering
from serving.steering.resolver import SteeringResolver
from tests.serving.engine.small_models import facts, served_vector, small_bank

NORMS = {0: 6.0, 1: 6.0, 2: 6.0}
"""The vectors of ``small_bank`` have scale 3: strength 2 is as long as a typical hidden state."""
RESOLVER = SteeringResolver(ServedVectors(small_bank()), RegistryHealth(reached=True), Limits(NORMS, 1.0))


BOTH = DimensionSteering({"privacy": 1.0}, {"privacy": 1.0})
NO_TARGETS = DimensionSteering(bound="at_least")
TWICE = SteeringRequest(DimensionSteering({"privacy": 1.0}), (VectorSteering("steer.small.privacy/1", strength=1.0),))


def strengths(**values):
    return SteeringRequest(DimensionSteering(values))


def test_a_request_becomes_one_plan_with_its_lineage():
    resolution = RESOLVER.resolve(strengths(toxicity=1.5, privacy=-1.0))
    assert resolution.plan.coefficients.tolist() == [[0, 0, 0], [1.5, -1.0, 0], [1.5, -1.0, 0]]
    applied = [vector.to_dict() for vector in resolution.applied]
    assert [(vector["vector"], vector["version"], vector["strength"]) for vector in applied] == [
        ("steer.small.toxicity", "1", 1.5),
        ("steer.small.privacy", "1", -1.0),
    ]
    assert [vector["relative_dose"] for vector in applied] == [0.75, 0.5]
    assert resolution.warnings == ()


def test_a_vector_of_several_layers_is_one_of_the_applied():
    vector = served_vector("toxicity", (0, 2))
    bank = SteeringBank(facts(), (vector,), {"toxicity": vector.reference})
    resolver = replace(RESOLVER, served=ServedVectors(bank), limits=Limits({0: 6.0, 2: 3.0}, 1.0))
    (applied,) = resolver.resolve(strengths(toxicity=-1.0)).applied
    told = applied.to_dict()
    assert (told["layers"], told["strength"], told["relative_dose"]) == ([0, 2], -1.0, 1.0)
    named = VectorSteering(vector.reference, strength=1.0, layers=(0, 2))
    assert resolver.resolve(SteeringRequest(vectors=(named,))).plan.layers == (0, 2)
    for layers in ((0,), (0, 1, 2)):
        with pytest.raises(InvalidSteering, match=r"was fitted at layers 0,2 and `layers` is \[0"):
            resolver.resolve(SteeringRequest(vectors=(replace(named, layers=layers),)))
    with pytest.raises(StrengthOutOfRange, match="uncalibrated range, -1 to 1"):
        resolver.resolve(strengths(toxicity=1.5))
    with pytest.raises(Mismatch, match="layer 3 does not exist: small has 3 layers"):
        SteeringBank(facts(), (served_vector("toxicity", (1, 3)),))


def test_the_default_is_inherited_by_dimension_and_cleared_by_off():
    resolver = replace(RESOLVER, default=DimensionSteering({"toxicity": 1.0, "privacy": 1.0}))
    inherited = resolver.resolve(strengths(toxicity=0.5)).plan
    np.testing.assert_array_equal(inherited.coefficients[2], [0.5, 1.0, 0])
    assert resolver.resolve(SteeringRequest(inherits=False)).plan.fingerprint == ""


def test_strengths_beyond_the_range_are_rejected_clamped_or_warned_of():
    with pytest.raises(StrengthOutOfRange, match=r"strength 3 .* uncalibrated range, -2 to 2; lower it") as raised:
        RESOLVER.resolve(strengths(toxicity=3.0))
    assert raised.value.param == "steering.strengths.toxicity"
    clamped = RESOLVER.resolve(replace(strengths(toxicity=3.0), on_exceed="clamp"))
    assert (clamped.applied[0].intervention.strength, clamped.applied[0].requested) == (2.0, 3.0)
    warned = RESOLVER.resolve(replace(strengths(toxicity=3.0), on_exceed="warn"))
    assert warned.applied[0].intervention.strength == 3.0 and "applied all the same" in warned.warnings[0]


def test_offsets_of_one_layer_together_keep_the_limit():
    """Privacy and fairness share a layer; their directions are nearly orthogonal."""
    both = strengths(privacy=2.0, fairness=2.0)
    with pytest.raises(StrengthOutOfRange, match="layer 1 adds up to a relative norm of 1.[0-9]+, over 1;") as raised:
        RESOLVER.resolve(both)
    assert raised.value.param == "steering.strengths.privacy"
    plan = RESOLVER.resolve(replace(both, on_exceed="clamp")).plan
    assert np.linalg.norm(plan.offset(1, "generation")) == pytest.approx(6.0, rel=1e-4)


def test_projections_take_the_room_that_strengths_leave():
    request = SteeringRequest(DimensionSteering({"privacy": 1.5}, {"fairness": 1.0}))
    resolution = RESOLVER.resolve(request)
    projection = next(v.intervention for v in resolution.applied if isinstance(v.intervention, Project))
    assert (projection.low, projection.high) == pytest.approx((-0.5, 0.5))
    assert "limited to 25% of their range" in resolution.warnings[0]


@pytest.mark.parametrize(
    ("request_", "error", "param", "message"),
    [
        (strengths(kindness=1.0), InvalidSteering, "strengths.kindness", "unknown dimension 'kindness'"),
        (
            strengths(robustness=1.0),
            InvalidSteering,
            "strengths.robustness",
            r"small has no live vector for robustness; live: .*-e calibrate -P 'model=.*' -P dimensions=robustness",
        ),
        (
            SteeringRequest(DimensionSteering({"privacy": 1.0}, {"privacy": 1.0})),
            InvalidSteering,
            "targets.privacy",
            "both",
        ),
        (
            SteeringRequest(DimensionSteering(bound="at_least")),
            InvalidSteering,
            "bound",
            "`bound` applies to `targets`",
        ),
        (
            SteeringRequest(DimensionSteering(condition=ProbeCondition(0.5))),
            InvalidSteering,
            "when",
            "`when` applies to `strengths` and `targets`",
        ),
        (
            SteeringRequest(DimensionSteering({"privacy": 1.0}, condition=ProbeCondition(0.5))),
            InvalidSteering,
            "when",
            "steer.small.privacy/1 has no probe beside it",
        ),
        (
            SteeringRequest(vectors=(VectorSteering("steer.small.privacy/2", strength=1.0),)),
            VectorNotServed,
            "vectors.0.ref",
            "steer.small.privacy/2 is not live; live: steer.small.toxicity/1",
        ),
        (
            SteeringRequest(vectors=(VectorSteering("steer.small.privacy/1", strength=1.0, layers=(2,)),)),
            InvalidSteering,
            "vectors.0.layers",
            "fitted at layer 1",
        ),
        (
            SteeringRequest(vectors=(VectorSteering("steer.small.privacy/1", target=1.0),)),
            InvalidSteering,
            "vectors.0.target",
            "`target` belongs to `op` project",
        ),
        (
            SteeringRequest(
                DimensionSteering({"privacy": 1.0}), (VectorSteering("steer.small.privacy/1", strength=1.0),)
            ),
            InvalidSteering,
            "vectors.0.strength",
            "asked for twice, by steering.strengths.privacy and steering.vectors.0.strength",
        ),
    ],
)
def test_refusals_name_the_field_and_the_way_out(request_, error, param, message):
    with pytest.raises(error, match=message) as raised:
        RESOLVER.resolve(request_)
    assert raised.value.param == f"steering.{param}"


def test_an_alias_and_a_version_name_the_same_vector():
    scope = TokenScope("all", "none")
    by_alias, by_version = (
        RESOLVER.resolve(SteeringRequest(vectors=(VectorSteering(name, strength=1.0, scope=scope),))).plan
        for name in ("models:/steer.small.privacy@champion", "steer.small.privacy/1")
    )
    assert by_alias.fingerprint == by_version.fingerprint != ""
    assert by_alias.coefficients[:, 1].tolist() == [1, 1, 0]


def test_an_unread_registry_is_no_missing_vector():
    unread = replace(RESOLVER, served=ServedVectors(SteeringBank(facts())), health=RegistryHealth())
    with pytest.raises(SteeringNotReady, match="the registry is being read"):
        unread.resolve(strengths(privacy=1.0))
    with pytest.raises(SteeringNotReady):
        unread.resolve(SteeringRequest(vectors=(VectorSteering("steer.small.privacy/1", strength=1.0),)))


def test_a_refused_champion_tells_its_cause():
    refused = ServedVectors(SteeringBank(facts()), {"privacy": Mismatch("made from other weights")})
    with pytest.raises(VectorRefused, match="privacy cannot be steered: made from other weights") as raised:
        replace(RESOLVER, served=refused).resolve(strengths(privacy=1.0))
    assert isinstance(raised.value.__cause__, Mismatch)


def test_an_engine_that_cannot_project_says_so():
    adds_only = replace(RESOLVER, operations=frozenset({"add"}))
    with pytest.raises(InvalidSteering, match="cannot do project; it can do add"):
        adds_only.resolve(SteeringRequest(DimensionSteering(targets={"privacy": 1.0})))


def test_defaults_survive_the_way_to_disk():
    for steering in (
        DimensionSteering(),
        DimensionSteering({"privacy": 1.0}, {"toxicity": -0.5}, "at_most", ProbeCondition(0.25)),
    ):
        assert DimensionSteering.from_dict(steering.to_dict()) == steering


def test_probes_of_later_layers_cannot_gate_an_earlier_vector():
    late = served_vector("privacy", 0, probe=1)
    served = ServedVectors(SteeringBank(facts(), (late,), {"privacy": late.reference}))
    request = SteeringRequest(DimensionSteering({"privacy": 1.0}, condition=ProbeCondition(0.5)))
    with pytest.raises(InvalidSteering, match="reads layer 1 and the vector steers layer 0"):
        replace(RESOLVER, served=served).resolve(request)


def test_a_scope_beside_strengths_holds_for_all_of_them():
    everywhere = TokenScope("all", "none")
    request = SteeringRequest(DimensionSteering({"toxicity": 1.0}, {"privacy": 0.5}, scope=everywhere))
    scopes = [vector.intervention.scope for vector in RESOLVER.resolve(request).applied]
    assert scopes == [everywhere, everywhere]
    default = DimensionSteering({"toxicity": 1.0}, scope=everywhere)
    resolver = replace(RESOLVER, default=default)
    (inherited,) = resolver.resolve(SteeringRequest()).applied
    assert inherited.intervention.scope == everywhere
    given = SteeringRequest(DimensionSteering({"privacy": 1.0}, scope=TokenScope("none")))
    assert {vector.dimension: vector.intervention.scope for vector in resolver.resolve(given).applied} == {
        "toxicity": TokenScope("none"),
        "privacy": TokenScope("none"),
    }
    (plain,) = RESOLVER.resolve(strengths(privacy=1.0)).applied
    assert plain.intervention.scope == TokenScope("last", "all")
    with pytest.raises(InvalidSteering, match="`apply` applies to `strengths` and `targets`"):
        RESOLVER.resolve(SteeringRequest(DimensionSteering(scope=everywhere)))


def test_a_default_with_a_scope_is_read_back():
    default = DimensionSteering({"toxicity": 1.0}, scope=TokenScope("all", "none"))
    assert DimensionSteering.from_dict(default.to_dict()) == default


READ = {"": (), "none": ("chat",), "chat": ("none",)}
"""By the form that a vector's answers were read in, the forms of prompts that are another one."""


@pytest.mark.parametrize("prompt", ["none", "chat"])
@pytest.mark.parametrize("template", READ)
def test_a_vector_read_in_another_form_is_told(template, prompt):
    served = served_vector("toxicity")
    served = replace(served, vector=replace(served.vector, lineage=replace(served.vector.lineage, template=template)))
    bank = SteeringBank(facts(), (served,), {"toxicity": served.reference})
    resolver = SteeringResolver(ServedVectors(bank), RegistryHealth(reached=True), Limits(NORMS, 1.0))
    warnings = resolver.resolve(strengths(toxicity=1.0)).after(prompt).warnings
    assert len(warnings) == (prompt in READ[template])
    if warnings:
        forms = {"none": "plain text", "chat": "a chat"}
        assert warnings[0].startswith("steer.small.toxicity/1 was read on answers ")
        assert f"this prompt is {forms[prompt]}" in warnings[0]
    assert resolver.resolve(strengths(toxicity=0.0)).after(prompt).warnings == ()
