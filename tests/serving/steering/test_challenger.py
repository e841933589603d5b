"""Challengers: which version steers a request, what is said of it, and what never draws one."""

from dataclasses import replace

import pytest

from serving.steering.bank import SteeringBank
from serving.steering.catalog import RegistryHealth, ServedVectors
from serving.steering.errors import StrengthOutOfRange
from serving.steering.limits import Limits
from serving.steering.plan import SteeringPlan
from serving.steering.request import DimensionSteering, SteeringRequest, VectorSteering
from serving.steering.resolver import SteeringResolver
from tests.serving.engine.small_models import facts, served_vector

OLD, NEW = served_vector("toxicity", 1, "1", probe=1), served_vector("toxicity", 1, "2", seed=9, scale=6.0, probe=1)
OTHER = served_vector("privacy", 1, seed=3)
BANK = SteeringBank(facts(), (OLD, NEW, OTHER), {"toxicity": OLD.reference, "privacy": OTHER.reference})
SERVED = ServedVectors(BANK, challengers={"toxicity": NEW.reference})
RESOLVER = SteeringResolver(SERVED, RegistryHealth(reached=True), Limits({0: 6.0, 1: 6.0, 2: 6.0}, 1.0))
"""Of scale 6, the challenger takes strengths up to 1, and the champion up to 2."""


def strengths(**values):
    return SteeringRequest(DimensionSteering(values), monitor=("toxicity",))


def steered_by(resolution):
    return {vector.intervention.vector.reference for vector in resolution.applied}


def test_a_request_that_is_drawn_is_steered_by_the_challenger():
    drawn = RESOLVER.resolve_variant(strengths(toxicity=0.5, privacy=0.5), is_challenged=True)
    assert steered_by(drawn) == {NEW.reference, OTHER.reference}
    assert drawn.variants == {"toxicity": "challenger"}
    assert [vector.to_dict().get("alias") for vector in drawn.applied] == ["challenger", None]
    plain = RESOLVER.resolve_variant(strengths(toxicity=0.5, privacy=0.5))
    assert steered_by(plain) == {OLD.reference, OTHER.reference} and plain.variants == {"toxicity": "champion"}
    assert [vector.to_dict().get("alias") for vector in plain.applied] == [None, None]
    assert drawn.plan.fingerprint != plain.plan.fingerprint
    assert isinstance(drawn.plan, SteeringPlan) and drawn.plan.bank.identity == plain.plan.bank.identity


def test_both_variants_are_read_by_the_champions_probe():
    for is_challenged in (False, True):
        resolution = RESOLVER.resolve_variant(strengths(toxicity=0.5), is_challenged=is_challenged)
        assert resolution.monitor.references == (OLD.reference,)


def test_a_strength_that_only_the_champion_takes_goes_to_it():
    resolution = RESOLVER.resolve_variant(strengths(toxicity=1.5), is_challenged=True)
    assert steered_by(resolution) == {OLD.reference} and resolution.variants == {"toxicity": "champion"}
    with pytest.raises(StrengthOutOfRange):
        RESOLVER.resolve_variant(strengths(toxicity=2.5), is_challenged=True)


def test_the_default_is_drawn_for_and_references_are_not():
    resolver = replace(RESOLVER, default=DimensionSteering({"toxicity": 0.5}))
    assert resolver.resolve_variant(SteeringRequest(), is_challenged=True).variants == {"toxicity": "challenger"}
    by_reference = SteeringRequest(vectors=(VectorSteering(OLD.reference, strength=0.5),))
    resolution = RESOLVER.resolve_variant(by_reference, is_challenged=True)
    assert steered_by(resolution) == {OLD.reference} and resolution.variants == {}


def test_without_challengers_nothing_is_drawn():
    resolver = replace(RESOLVER, served=ServedVectors(BANK))
    assert resolver.resolve_variant(strengths(toxicity=0.5), is_challenged=True).variants == {}
