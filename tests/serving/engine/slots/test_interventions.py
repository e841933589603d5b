"""Conditional steering and projection: in a mixed batch, alone, and by plain hooks on transformers' `generate`."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from registry.errors import InvalidInput
from serving.engine.requirements import require_operations
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.model_runner import ModelRunner
from serving.engine.slots.slot_sequence import interventions_of
from serving.engine.slots.token_batch import TokenBatch
from serving.model.interventions import LayerIntervention, LayerVectors
from serving.steering.bank import SteeringBank
from serving.steering.limits import layer_norms
from serving.steering.plan import Add, Project
from tests.serving.engine.small_models import (
    add,
    facts,
    plain_argmax,
    plan,
    project,
    prompts,
    request,
    served_vector,
    small_llama,
)

BANK = SteeringBank(
    facts(),
    (
        served_vector("toxicity", 0, seed=1, mean=0.5, probe=0),
        served_vector("privacy", 1, seed=2, mean=-1.0, probe=0),
        served_vector("fairness", 1, seed=3, mean=2.0, probe=1),
        served_vector("robustness", 2, seed=4, scale=1.5, probe=1),
        served_vector("reliability", 1, seed=5),
        served_vector("safety", (0, 1, 2), seed=6, mean=0.5, scale=2.0, probe=0),
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
    (),
    (add(BANK, 3, 5.0, prompt="all", below=0.4), add(BANK, 0, 1.0)),
    (project(BANK, 3, 3.0, **WIDE, bound="at_least", prompt="all", below=0.7), add(BANK, 1, 2.0, below=0.3)),
    (add(BANK, 4, 2.5), add(BANK, 2, 3.0, below=0.9, generation="none", prompt="all")),
    (project(BANK, 2, 1.0, **WIDE), add(BANK, 1, 5.0), add(BANK, 4, -4.0, "all")),
    (add(BANK, 5, 2.0), add(BANK, 1, -2.0)),
    (add(BANK, 5, 3.0, below=0.5), add(BANK, 1, 1.0)),
    (project(BANK, 5, 1.5, **WIDE, prompt="all"),),
]


@contextmanager
def hooked(model, moves, length, fired):
    """Every token on its own, straight from the definition; ``fired`` collects (reference, position) of moves."""
    seen = {layer: 0 for layer in range(3)}
    trusted = {}

    def hook(layer):
        def run(_module, _inputs, output):
            states = output.clone()
            for column in range(states.shape[1]):
                position = seen[layer]
                seen[layer] += 1
                raw = states[0, column].clone()
                for vector in BANK.vectors:
                    if vector.probe is not None and vector.probe.layer == layer:
                        trusted[vector.reference, position] = float(vector.probe.probability(raw.numpy()[None])[0])
                here = [given for given in moves if layer in given.vector.layers and acts(given, position)]
                states[0, column] = moved(raw, here, position, layer)
            return states

        return run

    def acts(given, position):
        phase = "generation" if position >= length else "last_prompt" if position == length - 1 else "prompt"
        fires = given.condition is None or trusted[given.vector.reference, position] < given.condition.probe_below
        return given.scope.includes(phase) and fires

    def moved(state, here, position, layer):
        for given in here:
            if isinstance(given, Add):
                vector = given.vector.vector.at(layer)
                state = state + given.strength * vector.scale * torch.from_numpy(vector.unit)
                fired.add((given.vector.reference, position))
        shifts = []
        for given in here:
            if isinstance(given, Project):
                vector = given.vector.vector.at(layer)
                direction = torch.from_numpy(vector.unit)
                shift = given.target - (float(state @ direction) - vector.projection_mean) / vector.scale
                shift = min(max(shift, given.low), given.high)
                if (given.bound == "at_least" and shift < 0) or (given.bound == "at_most" and shift > 0):
                    shift = 0.0
                if shift:
                    fired.add((given.vector.reference, position))
                shifts.append(shift * vector.scale * direction)
        return sum(shifts, state)

    handles = [block.register_forward_hook(hook(layer)) for layer, block in enumerate(model.network.model.layers)]
    yield
    for handle in handles:
        handle.remove()


def generated(model, asked, moves):
    """Greedy tokens by transformers' `generate` under those hooks, and what moved where."""
    fired = set()
    length = len(asked.prompt_tokens)
    with hooked(model, moves, length, fired):
        found = model.network.generate(
            torch.tensor([asked.prompt_tokens]), max_new_tokens=asked.sampling.max_tokens, do_sample=False
        )
    return tuple(found[0, length:].tolist()), fired


def test_a_mixed_batch_agrees_with_hooks_on_generate():
    model = small_llama()
    moves = [setting for setting in MIXTURE for _ in range(2)]
    asked = [request(prompt, given, BANK, max_tokens=16) for prompt, given in zip(prompts(28, 5), moves, strict=True)]
    with SlotEngine(model, slots=5, prefill_chunk=16) as engine:
        together = [generation.result(60) for generation in [engine.submit(wanted) for wanted in asked]]
        alone = [engine.submit(wanted).result(60).tokens for wanted in asked]
    assert [answer.tokens for answer in together] == alone
    steered = []
    for wanted, setting, answer in zip(asked, moves, together, strict=True):
        tokens, fired = generated(model, wanted, setting)
        assert answer.tokens == tokens
        length = len(wanted.prompt_tokens)
        for reference, counts in answer.outcome.moved.items():
            positions = [position for which, position in fired if which == reference]
            assert counts == (sum(p < length for p in positions), sum(p >= length for p in positions))
        if not any(isinstance(given, Add) and given.condition is None for given in setting):
            steered_at = {position for _, position in fired}
            assert answer.outcome.steered_prompt == sum(p < length for p in steered_at)
            assert answer.outcome.steered_generation == sum(p >= length for p in steered_at)
        unsteered = plain_argmax(model, [*wanted.prompt_tokens, *tokens[:-1]], request(wanted.prompt_tokens))
        steered.append(list(tokens) != unsteered[length - 1 :])
    expected = [bool(setting) for setting in moves]
    assert [got for got, want in zip(steered, expected, strict=True) if not want] == [False] * 4
    assert sum(steered) >= 0.7 * sum(expected)


def test_a_projection_reaches_its_target_within_range():
    model, generator = small_llama(), torch.Generator().manual_seed(0)
    states = 20 * torch.randn(1, 40, 32, generator=generator)
    vector = BANK.vectors[1].vector
    layer = LayerVectors.from_bank(BANK, 1, model.device)

    def place(of):
        return (of[0] @ torch.from_numpy(vector.direction) - vector.projection_mean) / vector.scale

    def run(*moves):
        wanted = interventions_of(plan(BANK, moves), {1: layer})[1, "generation"][1]
        return place(LayerIntervention(layer, range(40), [wanted] * 40).apply(states))

    before = place(states)
    assert before.min() < -3 and before.max() > 5
    torch.testing.assert_close(run(project(BANK, 1, 1.5, -99, 99)), torch.full((40,), 1.5), atol=1e-4, rtol=0)
    limited = run(project(BANK, 1, 1.5, -2, 1))
    torch.testing.assert_close(limited, before + (1.5 - before).clamp(-2, 1), atol=1e-4, rtol=0)
    at_least = run(project(BANK, 1, 1.5, -99, 99, "at_least"))
    torch.testing.assert_close(at_least, before.clamp(min=1.5), atol=1e-4, rtol=0)
    at_most = run(project(BANK, 1, 1.5, -99, 99, "at_most"))
    torch.testing.assert_close(at_most, before.clamp(max=1.5), atol=1e-4, rtol=0)


def test_rows_that_nothing_moves_are_bit_identical_beside_moved_ones():
    """Of one batch: a row without moves, one whose probe never fires, one whose bound already holds, one that moves."""
    model = small_llama()
    asked = [
        (),
        (add(BANK, 2, 3.0, below=1e-30),),
        (project(BANK, 1, -40.0, -5, 5, "at_least"),),
        (project(BANK, 1, 4.0, -50, 50),),
    ]
    layer = LayerVectors.from_bank(BANK, 1, model.device)
    wanted = [interventions_of(plan(BANK, wanted), {1: layer}).get((1, "generation")) for wanted in asked]
    places = [place for place, parameters in enumerate(wanted) if parameters is not None]
    moves = LayerIntervention(layer, places, [wanted[place][1] for place in places])
    decoder = ModelRunner(model, 4)
    batch = TokenBatch.of([(decoder.cache.reserve(1), 0) for _ in range(4)], [], model.device)
    mixed = decoder.forward([5, 5, 7, 9], batch, range(4), {}, [moves])
    plain = decoder.forward([5, 5, 7, 9], batch, range(4), {})
    decoder.close()
    assert moves.moved.any(1).tolist() == [False, False, True]
    assert torch.equal(mixed[:3], plain[:3])
    assert not torch.equal(mixed[3], plain[3])


def test_the_fingerprint_tells_operations_targets_bounds_and_conditions_apart():
    different = [
        (add(BANK, 0, 1.0),),
        (add(BANK, 0, 1.0, below=0.5),),
        (add(BANK, 0, 1.0, below=0.6),),
        (project(BANK, 0, 1.0, -1, 1),),
        (project(BANK, 0, 1.0, -1, 2),),
        (project(BANK, 0, 1.0, -1, 1, "at_least"),),
        (project(BANK, 0, 1.0, -1, 1, below=0.5),),
        (project(BANK, 0, 1.0, -1, 1, prompt="all"),),
        (project(BANK, 1, 1.0, -1, 1),),
    ]
    found = [plan(BANK, setting) for setting in different]
    assert len({steering.fingerprint for steering in found}) == len(different) and all(
        steering.fingerprint for steering in found
    )
    assert plan(BANK, (add(BANK, 0, 0.0, below=0.5),)).fingerprint == ""
    both = (project(BANK, 1, 1.0, -1, 1), add(BANK, 0, 1.0, below=0.5))
    assert plan(BANK, both).fingerprint == plan(BANK, both[::-1]).fingerprint
    assert [sorted(given.operations) for given in found[:4]] == [["add"], ["add", "when"], ["add", "when"], ["project"]]


def test_the_norm_of_moves_is_their_furthest():
    given = (add(BANK, 1, 2.0), add(BANK, 2, -3.0, below=0.5), project(BANK, 4, 9.0, -2.0, 1.0, "at_most"))
    assert layer_norms(given, {1: 10.0}) == pytest.approx({1: (2 * 3 + 3 * 3 + 2 * 3) / 10})


def test_what_cannot_be_carried_out_is_refused_by_name():
    early = served_vector("toxicity", 0, probe=1)
    bank = SteeringBank(facts(), (early, served_vector("privacy", 1)))
    with pytest.raises(
        InvalidInput, match=r"probe of steer\.small\.toxicity/1 reads layer 1 and the vector steers layer 0"
    ):
        plan(bank, (add(bank, 0, 1.0, below=0.5),))
    with pytest.raises(InvalidInput, match=r"steer\.small\.privacy/1 has no probe"):
        plan(bank, (project(bank, 1, 1.0, -1, 1, below=0.5),))
    for twice in (add(bank, 1, 2.0), project(bank, 1, 2.0, -1, 1)):
        with pytest.raises(InvalidInput, match="steered twice"):
            plan(bank, (project(bank, 1, 1.0, -1, 1), twice))
    for wrong in ({"low": 1.0}, {"high": -1.0}, {"high": np.inf}, {"target": np.nan}, {"below": 0.0}, {"bound": "up"}):
        with pytest.raises(InvalidInput):
            plan(BANK, (project(**{"bank": BANK, "row": 0, "target": 1.0, "low": -1.0, "high": 1.0, **wrong}),))
    with pytest.raises(InvalidInput, match="cannot do project, when, only add; use TRUSTTRACE_ENGINE=slots"):
        require_operations(plan(BANK, (project(BANK, 0, 1.0, -1, 1, below=0.5),)).operations, frozenset({"add"}))


def test_a_swapped_bank_leaves_running_moves():
    model, new = small_llama(), SteeringBank(facts(), (served_vector("privacy", 1, version="2", seed=8, probe=1),))
    moves = [(project(BANK, 1, 2.0, **WIDE),), (project(new, 0, 2.0, **WIDE, below=0.8),)] * 3
    banks = [BANK, new] * 3
    asked = [request(prompt, setting, bank) for prompt, setting, bank in zip(prompts(6), moves, banks, strict=True)]
    with SlotEngine(model, slots=3) as engine:
        together = [generation.result(60).tokens for generation in [engine.submit(wanted) for wanted in asked]]
        assert together == [engine.submit(wanted).result(60).tokens for wanted in asked]
