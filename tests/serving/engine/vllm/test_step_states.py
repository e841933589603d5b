"""What depends on hidden states, as a worker does it on vLLM's halves of the residual stream, against the slot engine.

The network is transformers' own and the loop the plainest: this needs no vLLM.
"""

from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from serving.engine.base import GenerationRequest
from serving.engine.slots.engine import SlotEngine
from serving.engine.vllm import step_states
from serving.engine.vllm.rows import KEY, encoded
from serving.engine.vllm.step import Step
from serving.engine.vllm.tables import tables_of
from serving.steering.bank import SteeringBank
from serving.steering.monitor import Monitor
from tests.mutants import mutant
from tests.probe_qualities import GOOD
from tests.serving.engine.small_models import add, facts, project, prompts, request, served_vector, small_llama

BANK = SteeringBank(
    facts(),
    (
        served_vector("toxicity", 0, seed=1, mean=0.5, probe=0),
        served_vector("privacy", 1, seed=2, mean=-1.0, probe=0),
        served_vector("fairness", 1, seed=3, mean=2.0, probe=1),
        served_vector("reliability", 1, seed=5),
        served_vector("safety", (0, 1, 2), seed=6, mean=0.5, scale=2.0, probe=0),
        served_vector("robustness", (1, 2), seed=4, probe=1, window=3, quality=GOOD),
    ),
)
WIDE = {"low": -50.0, "high": 50.0}
SETTINGS = {
    "project": (project(BANK, 1, 2.0, **WIDE), add(BANK, 3, 2.5)),
    "project all of the prompt": (project(BANK, 2, 1.0, -1.0, 0.5, prompt="all"), project(BANK, 1, -1.0, **WIDE)),
    "where a probe fires": (add(BANK, 2, 4.0, prompt="all", below=0.5), add(BANK, 0, -1.0, "all")),
    "several layers": (project(BANK, 4, 1.5, **WIDE, prompt="all", below=0.6), add(BANK, 1, 1.0)),
    "probe of answers": (add(BANK, 5, 5.0, below=0.5), project(BANK, 0, -1.5, **WIDE)),
    "monitor": (add(BANK, 0, 2.0), add(BANK, 2, 3.0, below=0.6)),
}
MONITOR = Monitor((BANK.vectors[2], BANK.vectors[5], BANK.vectors[0]))


def wanted(name, prompt):
    plain = request(prompt, SETTINGS[name], BANK, max_tokens=16)
    return GenerationRequest(plain.prompt_tokens, plain.sampling, plain.plan, MONITOR if name == "monitor" else None)


class Worker:
    """One worker and one request ``a``, behind another that fills places of every step."""

    BESIDE = 2

    def __init__(self, model, asked, module=step_states):
        self.model, self.step = model, Step(256, 4, model.device)
        self.step.states = module.StepStates(model.device)
        tables, of_tables = tables_of(asked)
        for table in tables:
            self.step.states.learn(table.name, table.to_bytes(), ())
        self.rows = [(row, vector.vector.at(vector.layers[0])) for row, vector in enumerate(BANK.vectors[:4])]
        used = list(asked.plan.rows)
        for row, direction in self.rows:
            self.step.layer_of[row] = direction.layer
        self.carried = {KEY: {**(encoded(asked.plan, used) if used else {}), "key": "k", **of_tables}}
        self.length = len(asked.prompt_tokens)
        self.admit()

    def admit(self):
        parameters = SimpleNamespace(extra_args=self.carried)
        new = SimpleNamespace(req_id="a", prompt_token_ids=[1] * self.length, sampling_params=parameters)
        self.step.admit(SimpleNamespace(scheduled_new_reqs=[new], finished_req_ids=()))

    def hook(self, layer):
        directions = torch.zeros(4, self.model.d_model)
        for row, direction in self.rows:
            if direction.layer == layer:
                directions[row] = torch.from_numpy(direction.offset(1.0))

        def run(_block, _inputs, output):
            whole = torch.cat([torch.zeros(self.BESIDE, self.model.d_model), output[0]])
            residual = whole * 0.75
            states = whole - residual
            self.step.states.read(layer, states, residual)
            states.add_(self.step.coefficients[: len(states)] @ directions)
            self.step.states.move(layer, states, residual)
            assert not (states + residual)[: self.BESIDE].any()
            return (states + residual)[None, self.BESIDE :]

        return run

    def run(self, tokens, done, cache):
        """Read ``tokens``, of which the first stands at ``done``; the likeliest that follows."""
        self.step.fill(["b", "a"], [0, done], [self.BESIDE, len(tokens)])
        with ExitStack() as hooks, torch.inference_mode():
            for layer, block in enumerate(self.model.network.model.layers):
                hooks.callback(block.register_forward_hook(self.hook(layer)).remove)
            logits = self.model.network(torch.tensor([tokens]), past_key_values=cache).logits
        self.step.states.finish()
        return int(logits[0, -1].argmax())


def answered(model, asked, read_anew_after=None, module=step_states):
    """The answer by a prompt in two pieces and one token at a time; read anew once, as vLLM does for want of memory."""
    worker, prompt, tokens, cache = Worker(model, asked, module), list(asked.prompt_tokens), [], DynamicCache()
    half = len(prompt) // 2
    if half:
        worker.run(prompt[:half], 0, cache)
    tokens.append(worker.run(prompt[half:], half, cache))
    while len(tokens) < asked.sampling.max_tokens:
        if len(tokens) == read_anew_after:
            cache = DynamicCache()
            worker.admit()
            tokens.append(worker.run([*prompt, *tokens], 0, cache))
        else:
            tokens.append(worker.run(tokens[-1:], len(prompt) + len(tokens) - 1, cache))
    return tuple(tokens), worker.step.states.taken().get("k", {"moved": {}, "readings": []})


def by_phase(positions, length):
    return sum(position < length for position in set(positions)), sum(position >= length for position in set(positions))


@pytest.fixture(scope="module")
def model():
    return small_llama()


@pytest.fixture(scope="module")
def expected(model):
    """The slot engine's answers to three prompts in each setting."""
    asked = {(name, number): wanted(name, prompt) for name in SETTINGS for number, prompt in enumerate(prompts(3, 5))}
    with SlotEngine(model, slots=4) as engine:
        generations = {key: engine.submit(each) for key, each in asked.items()}
        return {key: (asked[key], generation.result(60)) for key, generation in generations.items()}


@pytest.mark.parametrize("read_anew_after", [None, 6])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_worker_does_what_the_slot_engine_does(model, expected, name, read_anew_after):
    for number in range(3):
        asked, completion = expected[name, number]
        tokens, report = answered(model, asked, read_anew_after)
        assert tokens == completion.tokens
        references = [given.vector.reference for given in asked.plan.state_dependent]
        moved = {
            reference: by_phase(report["moved"].get(str(row), ()), len(asked.prompt_tokens))
            for row, reference in enumerate(references)
        }
        assert moved == completion.outcome.moved
    assert any(sum(map(sum, expected[name, number][1].outcome.moved.values())) for number in range(3))


def test_readings_are_logits_of_the_tokens_drawn_after(model, expected):
    for number in range(3):
        asked, completion = expected["monitor", number]
        _, report = answered(model, asked)
        first = len(asked.prompt_tokens) - 1
        assert [position for position, _ in report["readings"]] == list(range(first, first + 16))
        found = np.array([logits for _, logits in report["readings"]])
        told = np.array([[readings[0], readings[2]] for readings in completion.outcome.readings], float)
        np.testing.assert_allclose(1 / (1 + np.exp(-found[:, [0, 2]])), told, atol=1e-5)


def test_windows_hold_what_was_read_before(model, expected):
    """Read anew, all of an answer stands in one step: each token's window are the logits of before."""
    with mutant(step_states, "if earlier in of_vector]", "if earlier in ()]") as forgetful:
        answers = [
            answered(model, expected["probe of answers", number][0], 6, forgetful)[0]
            == expected["probe of answers", number][1].tokens
            for number in range(3)
        ]
    assert not all(answers)


def test_a_request_that_ended_is_read_no_more(model):
    worker = Worker(model, wanted("monitor", [1, 2, 3]))
    assert worker.step.has_readers
    worker.step.admit(SimpleNamespace(scheduled_new_reqs=[], finished_req_ids={"a"}))
    assert not worker.step.has_readers
    worker.step.fill(["a"], [0], [3])
    assert not worker.step.reads
    worker.step.states.finish()
    assert worker.step.states.taken() == {}
