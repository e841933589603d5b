"""Vectors of several layers: what is added where, in the plan, in the engine, and by plain hooks."""

from collections import defaultdict

import numpy as np
import pytest
import torch

from serving.engine.slots import slot_sequence
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.prefix_cache import UNSTEERED, steering_keys
from serving.model.residual_stream import recording, steering
from serving.steering import bank as bank_module
from serving.steering.bank import SteeringBank
from tests.mutants import mutant
from tests.serving.engine.small_models import (
    add,
    facts,
    naive_answers,
    naive_tokens,
    plan,
    project,
    prompts,
    request,
    served_vector,
    small_llama,
)

VECTORS = (
    served_vector("toxicity", (0, 1, 2), seed=1),
    served_vector("privacy", (1, 2), seed=2, scale=2.0),
    served_vector("fairness", 1, seed=3),
)
BANK = SteeringBank(facts(), VECTORS)


def check_offsets(module=bank_module):
    """Each layer of one plan: strength times scale times the direction there, summed over the vectors of the layer."""
    steered = plan(module.SteeringBank(facts(), VECTORS), [2.0, -1.5, 0.5])
    assert steered.layers == (0, 1, 2)
    for layer in (0, 1, 2):
        expected = np.zeros(32)
        for vector, strength in zip(VECTORS, (2.0, -1.5, 0.5), strict=True):
            for direction in vector.vector.directions:
                if direction.layer == layer:
                    expected += strength * direction.scale * direction.unit
        np.testing.assert_allclose(steered.offset(layer, "generation"), expected, atol=1e-5)


def test_each_layer_gets_strength_times_its_own_direction():
    check_offsets()


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("vector.vector.offsets(1.0).items()", "list(vector.vector.offsets(1.0).items())[:1]"),
        ("matrices[layer][row] = offset", "matrices[layer][row] = vector.vector.directions[0].offset(1.0)"),
    ],
    ids=["the lowest layer only", "one direction for all"],
)
def test_a_bank_of_other_offsets_shows(passage, replacement):
    with mutant(bank_module, passage, replacement) as changed, pytest.raises(AssertionError):
        check_offsets(changed)


def test_hidden_states_move_by_exactly_the_offset_of_their_layer():
    """At the lowest layer the difference to the plain pass is the offset; above it, to a pass steered below alone."""
    model, strength = small_llama(), 1.5
    offsets = {layer: torch.from_numpy(offset) for layer, offset in VECTORS[0].vector.offsets(strength).items()}
    tokens = torch.tensor([prompts(1)[0]])

    def states(given):
        found = {}
        with (
            torch.inference_mode(),
            steering(model.network, given),
            recording(model.network, range(3), found.__setitem__),
        ):
            model.network(tokens, use_cache=False)
        return found

    steered = states(offsets)
    for layer, direction in enumerate(VECTORS[0].vector.directions):
        below = states({place: offset for place, offset in offsets.items() if place < layer})
        moved = (steered[layer] - below[layer])[0]
        expected = torch.tensor(strength * direction.scale * direction.unit).expand_as(moved)
        torch.testing.assert_close(moved, expected, atol=2e-5, rtol=0)


def test_the_engine_answers_as_plain_hooks_do():
    model = small_llama()
    settings = [(), (2.0,), (0.0, 3.0), (-1.0, 2.0, 1.5), (add(BANK, 0, 1.0, "all"), add(BANK, 2, -2.0, "none"))]
    asked = [request(prompt, settings[number % 5], BANK) for number, prompt in enumerate(prompts(10, 3))]
    with SlotEngine(model, slots=4, prefill_chunk=16) as engine:
        together = [generation.result(60).tokens for generation in [engine.submit(wanted) for wanted in asked]]
    expected = naive_answers(model, asked, together)
    assert together == expected
    unsteered = [naive_tokens(model, request(wanted.prompt_tokens, (), BANK)) for wanted in asked]
    assert sum(steered != plain for steered, plain in zip(expected, unsteered, strict=True)) >= 6


def test_prefixes_are_known_by_the_offsets_of_all_layers():
    def key(*vectors):
        return steering_keys(plan(SteeringBank(facts(), vectors), [1.0] * len(vectors)))["generation"]

    whole = served_vector("toxicity", (0, 1), seed=7)
    lower = served_vector("toxicity", 0, seed=7)
    assert len({key(whole), key(lower), UNSTEERED}) == 3
    np.testing.assert_array_equal(lower.vector.direction, whole.vector.at(0).unit)
    assert steering_keys(plan(SteeringBank(facts(), (whole,)), [1.0]))["prompt"] == UNSTEERED


def count(module=slot_sequence):
    """The tokens that are counted of two vectors: one token at two layers, one at one."""
    counted = defaultdict(int)

    class Running:
        def count(self, _phase, references):
            for reference in references:
                counted[reference] += 1

    class Intervention:
        def __init__(self, moved):
            self.tokens, self.moved = [0, 1], torch.tensor(moved)
            self.vectors = type("Vectors", (), {"references": ("a", "b")})

    running = [(Running(), "generation")] * 2
    moves = [Intervention([[True, False], [False, True]]), Intervention([[True, True], [False, False]])]
    module.count_moved(running, moves)
    return dict(counted)


def test_a_token_is_counted_once_at_however_many_layers():
    assert count() == {"a": 1, "b": 2}
    with mutant(slot_sequence, "setdefault(position, set()).update(", "setdefault(position, []).extend(") as changed:
        assert count(changed) == {"a": 2, "b": 2}


def test_a_condition_asks_the_probe_of_the_lowest_layer_once():
    vector = served_vector("toxicity", (1, 2), seed=4, probe=1)
    bank = SteeringBank(facts(), (vector,))
    assert vector.require_probe().layer == 1
    model = small_llama()
    asked = [request(prompt, (add(bank, 0, 4.0, below=0.5),), bank) for prompt in prompts(6, 1)]
    with SlotEngine(model, slots=3) as engine:
        answers = [engine.submit(wanted).result(60) for wanted in asked]
    moved = [answer.outcome.moved[vector.reference][1] for answer in answers]
    assert all(0 <= number <= 12 for number in moved) and 0 < sum(moved) < 12 * len(moved)


def test_a_projection_is_brought_to_its_target_at_each_layer():
    model = small_llama()
    vector = served_vector("toxicity", (0, 1, 2), seed=5, mean=0.5)
    bank = SteeringBank(facts(), (vector,))
    steered = plan(bank, (project(bank, 0, 1.5, -1e3, 1e3, prompt="all"),))
    assert sorted(steered.operations) == ["project"]
    layers = {layer: slot_sequence.LayerVectors.from_bank(bank, layer, model.device) for layer in vector.layers}
    for (layer, _), (of_layer, parameters) in slot_sequence.interventions_of(steered, layers).items():
        states = 20 * torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(layer))
        moved = slot_sequence.LayerIntervention(of_layer, range(5), [parameters] * 5).apply(states)
        direction = vector.vector.at(layer)
        found = (moved[0] @ torch.from_numpy(direction.unit) - direction.projection_mean) / direction.scale
        torch.testing.assert_close(found, torch.full((5,), 1.5), atol=1e-4, rtol=0)
