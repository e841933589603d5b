"""The condition by which a monitor ends an answer, and the monitors that a request may ask for."""

from dataclasses import replace

import numpy as np
import pytest

import serving.steering.monitor as module
from registry.errors import InvalidInput
from serving.steering.bank import SteeringBank
from serving.steering.catalog import RegistryHealth, ServedVectors
from serving.steering.errors import InvalidSteering
from serving.steering.limits import Limits
from serving.steering.monitor import Monitor, StopCondition
from serving.steering.plan import ProbeCondition, SteeringPlan, TokenScope
from serving.steering.request import DimensionSteering, SteeringRequest
from serving.steering.resolver import SteeringResolver
from tests.mutants import mutant
from tests.probe_qualities import GOOD, POOR
from tests.serving.engine.small_models import facts, served_vector

PROBED, BARE = served_vector("toxicity", 0, probe=2), served_vector("privacy", 1)
OF_ANSWERS = served_vector("fairness", 1, seed=3, probe=1, window=8, quality=GOOD, template="none")
UNUSED = served_vector("robustness", 1, seed=4, probe=1, window=8, quality=POOR)
VECTORS = (PROBED, BARE, OF_ANSWERS, UNUSED)
BANK = SteeringBank(facts(), VECTORS, {vector.dimension: vector.reference for vector in VECTORS})
RESOLVER = SteeringResolver(ServedVectors(BANK), RegistryHealth(reached=True), Limits({0: 6.0, 1: 6.0, 2: 6.0}, 1.0))

ANSWERS = [
    ([(0.05, 0.9), (0.05, 0.9), (0.05, 0.9)], 3),  # three in a row of one probe
    ([(0.05, 0.9), (0.5, 0.9), (0.05, 0.9), (0.05, 0.9), (0.05, 0.9)], 5),  # a high one begins the count anew
    ([(0.05, 0.9), (0.9, 0.05), (0.05, 0.9), (0.9, 0.05)], None),  # two probes do not add up
    ([(0.05, 0.05), (0.05, 0.05), (0.9, 0.9)], None),  # nor in one token
    ([(0.1, 0.9)] * 4, None),  # at the threshold is not below it
    ([(0.9, 0.05)] * 3, 3),
    ([(None, 0.9), (0.05, 0.9), (0.05, 0.9), (0.05, 0.9)], 4),  # where nothing was read yet nothing is low
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
        ("reading < below else 0", "reading < below else count"),
        ("reading < below else 0", "reading <= below else 0"),
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
        (
            SteeringRequest(monitor=("robustness",)),
            r"the probe of steer.small.robustness/1 is not used, .*: AUROC 0.620 .*; leave `monitor` out",
        ),
        (SteeringRequest(monitor=("kindness",)), "kindness"),
        (SteeringRequest(stop=StopCondition(0.1)), "`stop_when` reads the probes of `monitor`, which is empty"),
    ],
)
def test_what_cannot_be_monitored_is_refused_by_name(request_, message):
    with pytest.raises(InvalidSteering, match=message) as raised:
        RESOLVER.resolve(request_)
    assert raised.value.param == "steering.monitor"


def conditional(dimension, **scope):
    return SteeringRequest(
        DimensionSteering({dimension: 1.0}, condition=ProbeCondition(0.5), scope=TokenScope(**scope))
    )


def test_a_condition_asks_answers_of_a_probe_of_answers():
    for prompt in ("last", "none"):
        (vector,) = RESOLVER.resolve(conditional("fairness", prompt=prompt)).applied
        assert vector.to_dict()["when"] == {"probe_below": 0.5, "probe_layer": 1}
    refused = [
        (conditional("fairness", prompt="all"), "steer.small.fairness/1 reads answers and not their prompts"),
        (conditional("robustness"), r"the probe of steer.small.robustness/1 is not used.*leave the condition out"),
        (conditional("privacy"), r"steer.small.privacy/1 has no probe beside it.*leave the condition out"),
    ]
    for request_, message in refused:
        with pytest.raises(InvalidSteering, match=message) as raised:
            RESOLVER.resolve(request_)
        assert raised.value.param == "steering.when"


def test_readings_of_moved_states_are_told():
    def warnings(strengths, monitor):
        return RESOLVER.resolve(SteeringRequest(DimensionSteering(strengths), monitor=monitor)).warnings

    below = "the probe of steer.small.fairness/1 reads layer 1, after what is added at layer 0"
    assert [warning.partition(":")[0] for warning in warnings({"toxicity": 1.0}, ("fairness",))] == [below]
    # At its own layer a probe reads what is there before anything is added.
    assert warnings({"fairness": 1.0}, ("fairness",)) == warnings({"toxicity": 1.0}, ()) == ()


@pytest.mark.parametrize(("template", "told"), [("none", 0), ("chat", 1)])
def test_readings_after_prompts_of_another_form_are_told(template, told):
    resolution = RESOLVER.resolve(SteeringRequest(monitor=("fairness", "toxicity"))).after(template)
    found = [warning for warning in resolution.warnings if "was fitted on answers to plain text" in warning]
    assert len(found) == len(resolution.warnings) == told


def test_running_readings_forget_what_is_beyond_the_window():
    running = module.RunningReadings([OF_ANSWERS.probe, PROBED.probe])
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20, 2)).astype(np.float32)
    read = np.array([running.add(of_token) for of_token in logits.tolist()])
    assert read[0, 0] is None  # drawn from the prompt
    np.testing.assert_allclose(read[1:, 0].astype(float), OF_ANSWERS.probe.readings(logits[1:, 0]), atol=1e-6)
    np.testing.assert_allclose(read[:, 1].astype(float), PROBED.probe.readings(logits[:, 1]), atol=1e-6)


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("deque(maxlen=probe.window)", "deque()"),
        ("deque(maxlen=probe.window)", "deque(maxlen=1)"),
        ("if self._is_in_answer or not", "if True or not"),
    ],
)
def test_another_window_reads_something_else(passage, replacement):
    logits = np.random.default_rng(0).standard_normal(20).astype(np.float32)
    with mutant(module, passage, replacement) as changed:
        running = changed.RunningReadings([OF_ANSWERS.probe])
        read = np.array([running.add((logit,))[0] for logit in logits.tolist()][1:], float)
    assert np.abs(read - OF_ANSWERS.probe.readings(logits[1:])).max() > 0.01


def test_an_engine_that_reads_no_answers_refuses():
    without = replace(RESOLVER, operations=frozenset({"add"}))
    with pytest.raises(InvalidSteering, match="the engine of this service cannot do monitor; it can do add"):
        without.resolve(SteeringRequest(monitor=("toxicity",)))
