"""The condition by which a monitor ends an answer, and the monitors that a request may ask for."""

from dataclasses import replace

import pytest

import serving.steering.monitor as module
from registry.errors import InvalidInput
from serving.steering.bank import SteeringBank
from serving.steering.catalog import RegistryHealth, ServedVectors
from serving.steering.errors import InvalidSteering
from serving.steering.limits import Limits
from serving.steering.monitor import Monitor, StopCondition
from serving.steering.plan import SteeringPlan
from serving.steering.request import SteeringRequest
from serving.steering.resolver import SteeringResolver
from tests.mutants import mutant
from tests.serving.engine.small_models import facts, served_vector

PROBED, BARE = served_vector("toxicity", 0, probe=2), served_vector("privacy", 1)
BANK = SteeringBank(facts(), (PROBED, BARE), {vector.dimension: vector.reference for vector in (PROBED, BARE)})
RESOLVER = SteeringResolver(ServedVectors(BANK), RegistryHealth(reached=True), Limits({0: 6.0, 1: 6.0, 2: 6.0}, 1.0))

ANSWERS = [
    ([(0.05, 0.9), (0.05, 0.9), (0.05, 0.9)], 3),  # three in a row of one probe
    ([(0.05, 0.9), (0.5, 0.9), (0.05, 0.9), (0.05, 0.9), (0.05, 0.9)], 5),  # a high one begins the count anew
    ([(0.05, 0.9), (0.9, 0.05), (0.05, 0.9), (0.9, 0.05)], None),  # two probes do not add up
    ([(0.05, 0.05), (0.05, 0.05), (0.9, 0.9)], None),  # nor in one token
    ([(0.1, 0.9)] * 4, None),  # at the threshold is not below it
    ([(0.9, 0.05)] * 3, 3),
]


def ending(of, readings):
    low = of.LowReadings(of.StopCondition(0.1, 3), 2)
    return next((number for number, of_token in enumerate(readings, 1) if low.add(of_token)), None)


@pytest.mark.parametrize(("readings", "token"), ANSWERS)
def test_low_readings_in_a_row_end_an_answer(readings, token):
    assert ending(module, readings) == token


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("if reading < below else 0", "if reading < below else count"),
        ("if reading < below else 0", "if reading <= below else 0"),
        ("max(self._in_a_row)", "sum(self._in_a_row)"),
        ("max(self._in_a_row)", "min(self._in_a_row)"),
        (">= self._condition.tokens", "> self._condition.tokens"),
    ],
)
def test_another_rule_fails_the_table(passage, replacement):
    with mutant(module, passage, replacement) as changed:
        assert any(ending(changed, readings) != token for readings, token in ANSWERS)


@pytest.mark.parametrize(("below", "tokens"), [(0.0, 1), (1.1, 1), (0.5, 0), (float("nan"), 1)])
def test_a_condition_out_of_range_is_refused(below, tokens):
    with pytest.raises(InvalidInput, match="must be"):
        StopCondition(below, tokens)


def test_a_request_names_probes_of_champions():
    stop = StopCondition(0.1, 3)
    resolution = RESOLVER.resolve(SteeringRequest(monitor=("toxicity", "toxicity"), stop=stop))
    assert resolution.monitor == Monitor((PROBED,), stop)
    assert resolution.plan.fingerprint == SteeringPlan(BANK).fingerprint == ""
    assert RESOLVER.resolve(SteeringRequest()).monitor is None


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (SteeringRequest(monitor=("privacy",)), "steer.small.privacy/1 has no probe beside it"),
        (SteeringRequest(monitor=("kindness",)), "kindness"),
        (SteeringRequest(stop=StopCondition(0.1)), "`stop_when` reads the probes of `monitor`, which is empty"),
    ],
)
def test_what_cannot_be_monitored_is_refused_by_name(request_, message):
    with pytest.raises(InvalidSteering, match=message) as raised:
        RESOLVER.resolve(request_)
    assert raised.value.param == "steering.monitor"


def test_an_engine_that_reads_no_answers_refuses():
    without = replace(RESOLVER, operations=frozenset({"add"}))
    with pytest.raises(InvalidSteering, match="the engine of this service cannot do monitor; it can do add"):
        without.resolve(SteeringRequest(monitor=("toxicity",)))
