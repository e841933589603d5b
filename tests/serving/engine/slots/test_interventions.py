"""Conditional steering and projection: in a mixed batch, alone, and by plain hooks on transformers' `generate`."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from registry.errors import InvalidInput
from serving.engine.base import operations_of, require_operations
from serving.engine.sequence import moves_of
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kv_cache import TokenBatch
from serving.engine.slots.model_runner import SlotDecoder
from serving.model.interventions import LayerMoves, LayerVectors
from serving.model.norms import relative_dose
from serving.steering.bank import SteeringBank, VectorStrength, VectorTarget, plan
from tests.serving.engine.small_models import live_vector, prompts, request, small_llama

BANK = SteeringBank(
    "small",
    32,
    (
        live_vector("toxicity", 0, seed=1, mean=0.5, probe=0),
        live_vector("privacy", 1, seed=2, mean=-1.0, probe=0),
        live_vector("fairness", 1, seed=3, mean=2.0, probe=1),
        live_vector("robustness", 2, seed=4, scale=1.5, probe=1),
        live_vector("reliability", 1, seed=5),
    ),
)
WIDE = {"low": -50.0, "high": 50.0}
MIXTURE = [
    (),
    (VectorStrength(1, 3.0),),
    (VectorTarget(1, 2.0, **WIDE),),
    (VectorStrength(2, 4.0, below=0.5),),
    (VectorTarget(0, -1.5, **WIDE, below=0.6), VectorStrength(1, -2.0)),
    (VectorTarget(2, 1.0, -1.0, 0.5, prompt="all"), VectorTarget(1, -1.0, **WIDE, bound="at_most")),
    (),
    (VectorStrength(3, 5.0, prompt="all", below=0.4), VectorStrength(0, 1.0)),
    (VectorTarget(3, 3.0, **WIDE, bound="at_least", prompt="all", below=0.7), VectorStrength(1, 2.0, below=0.3)),
    (VectorStrength(4, 2.5), VectorStrength(2, 3.0, below=0.9, generation="none", prompt="all")),
    (VectorTarget(2, 1.0, **WIDE), VectorStrength(1, 5.0), VectorStrength(4, -4.0, "all")),
]


@contextmanager
def hooked(model, moves, length, fired):
    """Every token on its own, straight from the definition; ``fired`` collects (row, position) of what moved."""
    seen = {layer: 0 for layer in range(3)}
    trusted = {}

    def hook(layer):
        def run(_module, _inputs, output):
            states = output.clone()
            for column in range(states.shape[1]):
                position = seen[layer]
                seen[layer] += 1
                raw = states[0, column].clone()
                for row, live in enumerate(BANK.vectors):
                    if live.probe is not None and live.probe.layer == layer:
                        trusted[row, position] = float(live.probe.probability(raw.numpy()[None])[0])
                here = [one for one in moves if BANK.vectors[one.row].layer == layer and wants(one, position)]
                here = [one for one in here if one.below is None or trusted[one.row, position] < one.below]
                states[0, column] = moved(raw, here, position)
            return states

        return run

    def wants(one, position):
        if position >= length:
            return one.generation == "all"
        return one.prompt == "all" or (one.prompt == "last" and position == length - 1)

    def moved(state, here, position):
        for one in here:
            if isinstance(one, VectorStrength):
                vector = BANK.vectors[one.row].vector
                state = state + one.strength * vector.scale * torch.from_numpy(vector.direction)
                fired.add((one.row, position))
        shifts = []
        for one in here:
            if isinstance(one, VectorTarget):
                vector = BANK.vectors[one.row].vector
                direction = torch.from_numpy(vector.direction)
                shift = one.target - (float(state @ direction) - vector.projection_mean) / vector.scale
                shift = min(max(shift, one.low), one.high)
                if (one.bound == "at_least" and shift < 0) or (one.bound == "at_most" and shift > 0):
                    shift = 0.0
                if shift:
                    fired.add((one.row, position))
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


def test_a_mixed_batch_gives_each_request_what_it_gets_alone_and_by_hooks_on_generate():
    model = small_llama()
    moves = [one for one in MIXTURE for _ in range(2)]
    asked = [request(prompt, one, BANK, max_tokens=16) for prompt, one in zip(prompts(22, 5), moves, strict=True)]
    with SlotEngine(model, slots=5, prefill_chunk=16) as engine:
        together = [one.result(60) for one in [engine.submit(one) for one in asked]]
        alone = [engine.submit(one).result(60).tokens for one in asked]
    assert [one.tokens for one in together] == alone
    steered = []
    for one, wanted, answer in zip(asked, moves, together, strict=True):
        tokens, fired = generated(model, one, wanted)
        assert answer.tokens == tokens
        length = len(one.prompt_tokens)
        for row, counts in answer.finished.moved.items():
            positions = [position for which, position in fired if which == row]
            assert counts == (sum(p < length for p in positions), sum(p >= length for p in positions))
        plain = {one.row for one in wanted if isinstance(one, VectorStrength) and one.below is None}
        if not plain:
            steered_at = {position for _, position in fired}
            assert answer.finished.steered_prompt == sum(p < length for p in steered_at)
            assert answer.finished.steered_generation == sum(p >= length for p in steered_at)
        steered.append(tokens != generated(model, one, ())[0])
    expected = [bool(one) for one in moves]
    assert [got for got, want in zip(steered, expected, strict=True) if not want] == [False] * 4
    assert sum(steered) >= 0.7 * sum(expected)


def test_a_projection_arrives_at_its_target_and_goes_no_further_than_it_may():
    model, generator = small_llama(), torch.Generator().manual_seed(0)
    states = 20 * torch.randn(1, 40, 32, generator=generator)
    vector = BANK.vectors[1].vector
    layer = LayerVectors.of(BANK, 1, model.device)

    def place(of):
        return (of[0] @ torch.from_numpy(vector.direction) - vector.projection_mean) / vector.scale

    def run(*moves):
        wanted = moves_of(plan(BANK, moves), {1: layer})[1, "generation"][1]
        return place(LayerMoves(layer, range(40), [wanted] * 40).move(states))

    before = place(states)
    assert before.min() < -3 and before.max() > 5
    torch.testing.assert_close(run(VectorTarget(1, 1.5, -99, 99)), torch.full((40,), 1.5), atol=1e-4, rtol=0)
    limited = run(VectorTarget(1, 1.5, -2, 1))
    torch.testing.assert_close(limited, before + (1.5 - before).clamp(-2, 1), atol=1e-4, rtol=0)
    at_least = run(VectorTarget(1, 1.5, -99, 99, "at_least"))
    torch.testing.assert_close(at_least, before.clamp(min=1.5), atol=1e-4, rtol=0)
    at_most = run(VectorTarget(1, 1.5, -99, 99, "at_most"))
    torch.testing.assert_close(at_most, before.clamp(max=1.5), atol=1e-4, rtol=0)


def test_rows_that_nothing_moves_are_bit_identical_beside_moved_ones():
    """Of one batch: a row without moves, one whose probe never fires, one whose bound already holds, one that moves."""
    model = small_llama()
    asked = [
        (),
        (VectorStrength(2, 3.0, below=1e-30),),
        (VectorTarget(1, -40.0, -5, 5, "at_least"),),
        (VectorTarget(1, 4.0, -50, 50),),
    ]
    layer = LayerVectors.of(BANK, 1, model.device)
    wanted = [moves_of(plan(BANK, one), {1: layer}).get((1, "generation")) for one in asked]
    places = [place for place, one in enumerate(wanted) if one is not None]
    moves = LayerMoves(layer, places, [wanted[place][1] for place in places])
    decoder = SlotDecoder(model, 4)
    batch = TokenBatch([0, 0, 0, 0], [], model.device)
    mixed = decoder.forward([5, 5, 7, 9], batch, range(4), {}, [moves])
    plain = decoder.forward([5, 5, 7, 9], batch, range(4), {})
    decoder.close()
    assert moves.moved.any(1).tolist() == [False, False, True]
    assert torch.equal(mixed[:3], plain[:3])
    assert not torch.equal(mixed[3], plain[3])


def test_the_fingerprint_tells_operations_targets_bounds_and_conditions_apart():
    different = [
        (VectorStrength(0, 1.0),),
        (VectorStrength(0, 1.0, below=0.5),),
        (VectorStrength(0, 1.0, below=0.6),),
        (VectorTarget(0, 1.0, -1, 1),),
        (VectorTarget(0, 1.0, -1, 2),),
        (VectorTarget(0, 1.0, -1, 1, "at_least"),),
        (VectorTarget(0, 1.0, -1, 1, below=0.5),),
        (VectorTarget(0, 1.0, -1, 1, prompt="all"),),
        (VectorTarget(1, 1.0, -1, 1),),
    ]
    found = [plan(BANK, one) for one in different]
    assert len({one.fingerprint for one in found}) == len(different) and all(one.fingerprint for one in found)
    assert plan(BANK, (VectorStrength(0, 0.0, below=0.5),)).fingerprint == ""
    both = (VectorTarget(1, 1.0, -1, 1), VectorStrength(0, 1.0, below=0.5))
    assert plan(BANK, both).fingerprint == plan(BANK, both[::-1]).fingerprint
    assert [sorted(operations_of(one)) for one in found[:4]] == [["add"], ["add", "when"], ["add", "when"], ["project"]]


def test_the_dose_of_moves_is_the_furthest_that_they_may_go():
    given = (VectorStrength(1, 2.0), VectorStrength(2, -3.0, below=0.5), VectorTarget(4, 9.0, -2.0, 1.0, "at_most"))
    assert relative_dose(plan(BANK, given), {1: 10.0}) == pytest.approx({1: (2 * 3 + 3 * 3 + 2 * 3) / 10})


def test_what_cannot_be_carried_out_is_refused_by_name():
    early = live_vector("toxicity", 0, probe=1)
    bank = SteeringBank("small", 32, (early, live_vector("privacy", 1)))
    with pytest.raises(
        InvalidInput, match=r"probe of steer\.small\.toxicity/1 reads layer 1 and the vector steers layer 0"
    ):
        plan(bank, (VectorStrength(0, 1.0, below=0.5),))
    with pytest.raises(InvalidInput, match=r"steer\.small\.privacy/1 has no probe"):
        plan(bank, (VectorTarget(1, 1.0, -1, 1, below=0.5),))
    for twice in (VectorStrength(1, 2.0), VectorTarget(1, 2.0, -1, 1)):
        with pytest.raises(InvalidInput, match="moved twice"):
            plan(bank, (VectorTarget(1, 1.0, -1, 1), twice))
    for wrong in ({"low": 1.0}, {"high": -1.0}, {"high": np.inf}, {"target": np.nan}, {"below": 0.0}, {"bound": "up"}):
        with pytest.raises(InvalidInput):
            VectorTarget(**{"row": 0, "target": 1.0, "low": -1.0, "high": 1.0, **wrong})
    with pytest.raises(InvalidInput, match="cannot do project, when, only add; use TRUSTTRACE_ENGINE=slots"):
        require_operations(plan(BANK, (VectorTarget(0, 1.0, -1, 1, below=0.5),)), frozenset({"add"}))


def test_a_bank_that_is_swapped_leaves_running_moves_as_they_are():
    model, new = small_llama(), SteeringBank("small", 32, (live_vector("privacy", 1, version="2", seed=8, probe=1),))
    moves = [(VectorTarget(1, 2.0, **WIDE),), (VectorTarget(0, 2.0, **WIDE, below=0.8),)] * 3
    banks = [BANK, new] * 3
    asked = [request(prompt, one, bank) for prompt, one, bank in zip(prompts(6), moves, banks, strict=True)]
    with SlotEngine(model, slots=3) as engine:
        together = [one.result(60).tokens for one in [engine.submit(one) for one in asked]]
        assert together == [engine.submit(one).result(60).tokens for one in asked]
