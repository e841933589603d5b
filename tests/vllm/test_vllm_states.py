"""Projections, conditions and monitors on vLLM against the slot engine, in float32 on vLLM's build for CPUs."""

from dataclasses import replace

import numpy as np
import pytest

from registry.errors import InvalidInput
from serving.engine.base import GenerationRequest
from serving.engine.slots.engine import SlotEngine
from serving.steering.bank import SteeringBank
from serving.steering.monitor import Monitor, StopCondition
from tests.probe_qualities import GOOD
from tests.serving.engine.small_models import add, facts, naive_tokens, project, prompts, request, served_vector

BANK = SteeringBank(  # of versions that no other test has on the same engine
    facts(64),
    (
        served_vector("toxicity", 0, "20", seed=1, d_model=64, mean=0.5, probe=0),
        served_vector("privacy", 1, "20", seed=2, d_model=64, mean=-1.0, probe=0),
        served_vector("fairness", 1, "20", seed=3, d_model=64, mean=2.0, probe=1),
        served_vector("robustness", 2, "20", seed=4, d_model=64, scale=1.5, probe=1),
        served_vector("reliability", 1, "20", seed=5, d_model=64),
        served_vector("safety", (0, 1, 2), "20", seed=6, d_model=64, mean=0.5, scale=2.0, probe=0),
        served_vector("machine-ethics", (1, 2), "20", seed=7, d_model=64, probe=1, window=3, quality=GOOD),
    ),
)
WIDE = {"low": -50.0, "high": 50.0}
MIXTURE = [
    (),
    (add(BANK, 1, 3.0),),
    (project(BANK, 1, 2.0, **WIDE),),
    (add(BANK, 2, 4.0, below=0.5),),
    (project(BANK, 0, -1.5, **WIDE, below=0.6), add(BANK, 1, -2.0)),
    (project(BANK, 2, 1.0, -1.0, 0.5, prompt="all"), project(BANK, 1, -1.0, **WIDE, bound="at_most")),
    (add(BANK, 3, 5.0, prompt="all", below=0.4), add(BANK, 0, 1.0)),
    (project(BANK, 3, 3.0, **WIDE, bound="at_least", prompt="all", below=0.7), add(BANK, 1, 2.0, below=0.3)),
    (add(BANK, 4, 2.5), add(BANK, 2, 3.0, below=0.9, generation="none", prompt="all")),
    (add(BANK, 5, 3.0, below=0.5), add(BANK, 1, 1.0)),
    (project(BANK, 5, 1.5, **WIDE, prompt="all"),),
    (add(BANK, 6, 6.0, below=0.5),),
]


def monitored(prompt, strengths=(), rows=(0, 6, 3), stop=None, **sampling):
    plain = request(prompt, strengths, BANK, **sampling)
    return GenerationRequest(
        plain.prompt_tokens, plain.sampling, plain.plan, Monitor(tuple(BANK.vectors[row] for row in rows), stop)
    )


def completions(engine, requests):
    return [generation.result(120) for generation in [engine.submit(request) for request in requests]]


def outcomes(answers):
    """What is told of answers; how much of a prompt was cached is told by the slot engine alone."""
    return [replace(answer.outcome, cached_prompt=None, readings=()) for answer in answers]


def readings(answer):
    return np.array(answer.outcome.readings, float)


def test_what_depends_on_states_equals_the_slot_engines(model, engine):
    settings = [setting for setting in MIXTURE for _ in range(2)]
    wanted = [
        request(prompt, given, BANK, max_tokens=16) for prompt, given in zip(prompts(24, 5), settings, strict=True)
    ]
    found = completions(engine, wanted)
    with SlotEngine(model, slots=4) as slots:
        expected = completions(slots, wanted)
    assert [answer.tokens for answer in found] == [answer.tokens for answer in expected]
    assert outcomes(found) == outcomes(expected)
    plain = [naive_tokens(model, request(each.prompt_tokens, (), BANK, max_tokens=16)) for each in wanted]
    differ = [answer.tokens != other for answer, other in zip(found, plain, strict=True)]
    assert not any(differ[:2]) and sum(differ) >= 16
    # Once more, now that the cache holds them all.
    assert [answer.tokens for answer in completions(engine, wanted)] == [answer.tokens for answer in expected]
    assert not engine._tables._users and not engine._reports._reports


def test_readings_in_a_mixed_batch_equal_the_slot_engines(model, engine):
    settings = [(), (2.0,), (0, -3.0, 1.0), (project(BANK, 1, 2.0, **WIDE),)] * 3
    rows = [(0, 6, 3), (2,), (6, 0, 3, 2)] * 4
    wanted = [
        monitored(prompt, given, of) if place % 4 else request(prompt, given, BANK)
        for place, (prompt, given, of) in enumerate(zip(prompts(12, 3), settings, rows, strict=True))
    ]
    found = completions(engine, wanted)
    with SlotEngine(model, slots=4) as slots:
        expected = completions(slots, wanted)
    assert [answer.tokens for answer in found] == [answer.tokens for answer in expected]
    assert outcomes(found) == outcomes(expected)
    for answer, other in zip(found, expected, strict=True):
        assert answer.outcome.readings == tuple(event.readings for event in answer.events if event.readings)
        np.testing.assert_allclose(readings(answer), readings(other), atol=1e-4)
    assert np.nanstd(readings(found[1])) > 0.01


def test_an_answer_ends_where_its_readings_stay_low(engine):
    prompt = prompts(1, 4)[0]
    (whole,) = completions(engine, [monitored(prompt, rows=(0, 3), max_tokens=40)])
    lows = readings(whole).min(axis=1)
    threshold = float(np.mean(sorted(lows)[19:21]))  # no reading lies there, whatever its last bits
    ended, beside = completions(
        engine,
        [
            monitored(prompt, rows=(0, 3), stop=StopCondition(threshold, 2), max_tokens=40),
            monitored(prompt, rows=(0, 3), max_tokens=40),
        ],
    )
    below = readings(whole) < threshold
    last = next(token for token in range(1, len(below)) if (below[token] & below[token - 1]).any())
    assert (ended.outcome.reason, beside.outcome.reason) == ("content_filter", "length")
    assert ended.tokens == whole.tokens[: last + 1] and len(ended.tokens) < 40
    np.testing.assert_allclose(readings(ended), readings(whole)[: last + 1], atol=1e-4)
    assert beside.tokens == whole.tokens


def test_monitored_requests_that_are_cancelled_leave_nothing_behind(engine):
    generations = [engine.submit(monitored(prompt, (2.0,), max_tokens=60)) for prompt in prompts(6, 8)]
    while not generations[0]._events:
        pass
    for generation in generations:
        generation.cancel()
    assert {generation.result(60).outcome.reason for generation in generations} == {"cancelled"}
    (answer,) = completions(engine, [monitored([1, 2, 3])])
    assert answer.outcome.reason == "length" and len(answer.outcome.readings) == 12
    assert not engine._tables._users and not engine._reports._reports


def test_a_swapped_bank_leaves_running_moves(model, engine):
    new = SteeringBank(facts(64), (served_vector("privacy", 1, version="21", seed=8, d_model=64, probe=1),))
    settings = [(project(BANK, 1, 2.0, **WIDE),), (project(new, 0, 2.0, **WIDE, below=0.8),)] * 3
    wanted = [
        request(prompt, setting, bank)
        for prompt, setting, bank in zip(prompts(6), settings, [BANK, new] * 3, strict=True)
    ]
    found = completions(engine, wanted)
    with SlotEngine(model, slots=4) as slots:
        assert [answer.tokens for answer in found] == [answer.tokens for answer in completions(slots, wanted)]


def test_a_pipeline_refuses_what_reads_hidden_states(engine, monkeypatch):
    monkeypatch.setattr(engine, "operations", frozenset({"add"}))
    for wanted in (monitored([1]), request([1], (project(BANK, 1, 1.0, -1, 1),), BANK)):
        with pytest.raises(InvalidInput, match="only add; use TRUSTTRACE_ENGINE=slots"):
            engine.submit(wanted)
