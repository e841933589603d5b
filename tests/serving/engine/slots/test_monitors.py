"""Readings of monitored answers in a mixed batch, against the probes on the states of the plain model."""

import numpy as np
import pytest
import torch

from registry.errors import InvalidInput
from serving.engine.requirements import require_operations
from serving.engine.slots.engine import SlotEngine
from serving.model.residual_stream import recording, steering
from serving.steering.bank import SteeringBank
from serving.steering.monitor import Monitor, StopCondition
from tests.probe_qualities import GOOD
from tests.serving.engine.small_models import facts, prompts, request, served_vector, small_llama

BANK = SteeringBank(
    facts(),
    (
        served_vector("toxicity", 1, seed=1, probe=1),
        served_vector("privacy", 1, seed=2, probe=2),
        served_vector("fairness", 0, seed=3, probe=0),
        served_vector("reliability", 1, seed=4, probe=1, window=3, quality=GOOD),
    ),
)


def monitored(prompt, strengths=(), rows=(0, 1), stop=None, **sampling):
    plain = request(prompt, strengths, BANK, **sampling)
    monitor = Monitor(tuple(BANK.vectors[row] for row in rows), stop)
    return type(plain)(plain.prompt_tokens, plain.sampling, plain.plan, monitor)


def offline_readings(model, wanted, tokens):
    """Of each token, by the whole sequence through the plain model: no cache, no batch, no slots."""
    whole, length = [*wanted.prompt_tokens, *tokens], len(wanted.prompt_tokens)
    phases = ["prompt"] * (length - 1) + ["last_prompt"] + ["generation"] * len(tokens)
    offsets = {
        layer: torch.from_numpy(np.stack([wanted.plan.offset(layer, phase) for phase in phases]))
        for layer in BANK.layers
    }
    states = {}
    layers = [probe.layer for probe in wanted.monitor.probes]
    with torch.inference_mode():  # the reader is opened first, so it sees what a block left before its own offset
        keep = recording(model.network, layers, lambda layer, found: states.update({layer: found[0].clone().numpy()}))
        with keep, steering(model.network, offsets):
            model.network(torch.tensor([whole]), use_cache=False)
    drawn_from = slice(length - 1, -1)
    columns = [read(states[probe.layer][drawn_from], probe) for probe in wanted.monitor.probes]
    return np.stack(columns, axis=1)


def read(states, probe):
    """What the probe says of each token, or of the mean over its window, which begins with the answer's first token."""
    if not probe.reads_answers:
        return probe.probability(states)
    means = [states[max(1, end - probe.window) : end].mean(axis=0) for end in range(2, len(states) + 1)]
    return np.r_[np.nan, probe.probability(np.stack(means))]


def test_readings_agree_with_the_probes_offline():
    model = small_llama()
    wanted = []
    for place, prompt in enumerate(prompts(12, 3)):
        strengths = [(), (2.0,), (0, -3.0, 1.0)][place % 3]
        rows = [(0, 1, 3), (2,), (1, 0, 3, 2)][place % 3]
        wanted.append(monitored(prompt, strengths, rows) if place % 4 else request(prompt, strengths, BANK))
    with SlotEngine(model, slots=4, prefill_chunk=16) as engine:
        answers = [generation.result(60) for generation in [engine.submit(given) for given in wanted]]
        plain = [engine.submit(request(given.prompt_tokens, (), BANK)).result(60) for given in wanted[1:2]]
    assert not plain[0].outcome.readings and plain[0].events[0].readings == ()
    for given, answer in zip(wanted, answers, strict=True):
        assert answer.outcome.readings == tuple(event.readings for event in answer.events if event.readings)
        if given.monitor is None:
            assert answer.outcome.readings == ()
            continue
        expected = offline_readings(model, given, answer.tokens)
        np.testing.assert_allclose(np.array(answer.outcome.readings, float), expected, atol=1e-5)
        assert np.nanstd(expected) > 0.01


def test_a_monitor_changes_no_token():
    model = small_llama()
    prompt = prompts(1, 9)[0]
    with SlotEngine(model, slots=2) as engine:
        plain = engine.submit(request(prompt, (1.0,), BANK)).result(60)
        read = engine.submit(monitored(prompt, (1.0,))).result(60)
    assert (read.tokens, read.text) == (plain.tokens, plain.text)


def test_what_a_vector_adds_is_not_read_by_its_probe():
    """The readings of the same answer are the same however strongly its vector steers the probe's own layer."""
    model, prompt = small_llama(), prompts(1, 5)[0]
    unmoved, *moved = [
        offline_readings(model, monitored(prompt, (0, 0, 0, strength), (3,)), (5, 17, 80, 3, 41, 9))
        for strength in (0.0, 4.0, -4.0)
    ]
    for readings in moved:
        np.testing.assert_array_equal(readings, unmoved)
    wanted = monitored(prompt, (0, 0, 4.0), (3,), max_tokens=6)  # at layer 0, below the probe's
    assert np.nanmax(np.abs(offline_readings(model, wanted, (5, 17, 80, 3, 41, 9)) - unmoved)) > 0.01


def test_an_answer_ends_where_its_readings_stay_low():
    model = small_llama()
    prompt = prompts(1, 4)[0]
    with SlotEngine(model, slots=2) as engine:
        whole = engine.submit(monitored(prompt, max_tokens=40)).result(60)
        lows = [min(readings) for readings in whole.outcome.readings]
        threshold = sorted(lows)[len(lows) // 2]
        stop = StopCondition(float(threshold), 2)
        ended = engine.submit(monitored(prompt, stop=stop, max_tokens=40)).result(60)
    below = np.array(whole.outcome.readings) < threshold
    expected = next(token for token in range(1, len(below)) if (below[token] & below[token - 1]).any())
    assert ended.outcome.reason == "content_filter"
    assert ended.tokens == whole.tokens[: expected + 1] and len(ended.tokens) < 40
    assert ended.outcome.readings == whole.outcome.readings[: expected + 1]


def test_an_engine_without_monitors_refuses_the_request():
    with pytest.raises(InvalidInput, match="cannot do monitor"):
        require_operations(monitored([1, 2]).operations, frozenset({"add"}))
