"""Random directions whose cost is that of a vector."""

import math

import numpy as np
import pytest

from pipelines.calibrate import equal_cost
from pipelines.calibrate.candidates import Candidate
from pipelines.calibrate.equal_cost import drawn_direction, strength_at_cost, strengths_at_cost
from tests.mutants import mutant

COSTS = {
    "a square": lambda strength: 0.01 * strength**2,
    "a steep square": lambda strength: strength**2,
    "a line": lambda strength: 0.002 * strength,
    "first cheaper, then dearer": lambda strength: 0.01 * strength**2 - 0.02 * strength,
    "a cliff that gives no number": lambda strength: 0.02 * strength if strength < 6 else math.nan,
}


@pytest.mark.parametrize("name", COSTS)
def test_the_strength_costs_what_is_wanted(name):
    calls = []

    def cost(strength):
        calls.append(strength)
        return COSTS[name](strength)

    for start in (0.1, 2.0, 50.0):
        calls.clear()
        strength, reached = strength_at_cost(cost, 0.08, start)
        assert reached == COSTS[name](strength)
        assert reached == pytest.approx(0.08, rel=0.1)
        assert len(calls) <= 25


def test_a_square_is_found_at_the_second_try():
    calls = []
    strength, _ = strength_at_cost(lambda amount: calls.append(amount) or 0.01 * amount**2, 0.08, 1.0)
    assert strength == pytest.approx(8**0.5) and len(calls) == 2
    near = []
    assert strength_at_cost(lambda amount: near.append(amount) or 0.075, 0.08, 1.0) == (1.0, 0.075)
    assert len(near) == 1


def check_turns(module=equal_cost):
    """Directions of two kinds by turns, one of which costs far more, and one of each that cannot be made to cost."""
    slopes, tries = (0.01, 1.0, 0.0105, 1.05, 0.0, math.nan, 0.0101, 0.99), []

    def cost_of(number):
        return lambda strength: tries.append(number) or slopes[number] * strength**2

    found = list(module.strengths_at_cost(map(cost_of, range(len(slopes))), 0.08, 1.0))
    for number in (0, 1, 2, 3, 6, 7):
        strength, reached = found[number]
        assert reached == slopes[number] * strength**2 == pytest.approx(0.08, rel=0.1)
    assert [tries.count(number) for number in (2, 3, 6, 7)] == [1] * 4


def test_the_next_of_a_kind_is_found_at_once():
    check_turns()


@pytest.mark.parametrize(
    "change",
    [
        ("target, starts[number % 2])", "target, starts[0])"),
        ("starts[number % 2] = strength", "starts[0] = strength"),
        ("if _is_at(reached, target):\n            starts", "if True:\n            starts"),
    ],
)
def test_a_mutant_starts_elsewhere(change):
    with mutant(equal_cost, *change) as changed, pytest.raises(AssertionError):
        check_turns(changed)


def test_directions_are_drawn_as_they_are_sought():
    """None is sought before it is taken: a verdict may need no more."""
    sought = []
    found = strengths_at_cost(map(lambda number: sought.append(number) or (lambda _: 0.08), range(5)), 0.08, 1.0)
    assert next(found) == (1.0, 0.08) and sought == [0]


def test_what_never_costs_enough_is_as_strong_as_was_tried():
    assert strength_at_cost(lambda _: 0.0, 0.08, 1.0) == (2.0**10, 0.0)


def test_directions_are_drawn_evenly_or_where_activations_scatter(rng):
    states = np.outer(rng.normal(size=50), [3.0, 4.0, 0.0]).astype(np.float32) + 7
    along = drawn_direction(states, "covariance-matched", rng)
    assert abs(along @ [0.6, 0.8, 0.0]) == pytest.approx(1, abs=1e-5)
    drawn = np.array([drawn_direction(states, "isotropic", rng) for _ in range(300)])
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(drawn.mean(axis=0)).max() < 0.15
    assert (drawn**2).mean(axis=0) == pytest.approx(1 / 3, abs=0.07)


def drawn_like(module=equal_cost, layers=(2,)):
    """Of a candidate whose activations scatter along one axis; its offset is longer by one at each layer, from 5 on."""
    scattered = np.outer(np.random.default_rng(3).normal(size=50), [3.0, 4.0, 0.0]).astype(np.float32)
    offsets = {layer: np.array([0.0, 0.0, 5.0 + rank], np.float32) for rank, layer in enumerate(layers)}
    states = dict.fromkeys(layers, scattered)
    return list(module.random_like(Candidate("optimised", offsets), states, 4, seed=0))


def is_along(candidate, layer=2):
    offset = candidate.unit_offsets[layer]
    return abs(offset @ [0.6, 0.8, 0.0]) > (1 - 1e-5) * np.linalg.norm(offset)


def test_directions_are_of_both_kinds_by_turns():
    drawn = drawn_like()
    assert {(each.label, each.layers, each.fitted, each.registered) for each in drawn} == {("random", (2,), None, None)}
    assert [np.linalg.norm(each.unit_offsets[2]) for each in drawn] == pytest.approx([5.0] * 4)
    assert list(map(is_along, drawn)) == [False, True, False, True]
    for each, again in zip(drawn, drawn_like(), strict=True):
        np.testing.assert_array_equal(each.unit_offsets[2], again.unit_offsets[2])


def check_layers(module=equal_cost):
    """At each layer a direction of its own, as long as the candidate's there; at the first the one it has alone."""
    for several, alone in zip(drawn_like(module, (2, 3, 7)), drawn_like(module), strict=True):
        lengths = [np.linalg.norm(offset) for offset in several.unit_offsets.values()]
        assert (several.layers, lengths) == ((2, 3, 7), pytest.approx([5.0, 6.0, 7.0]))
        np.testing.assert_array_equal(several.unit_offsets[2], alone.unit_offsets[2])
    isotropic = drawn_like(module, (2, 3, 7))[0].unit_offsets.values()
    units = np.array([offset / np.linalg.norm(offset) for offset in isotropic])
    assert np.abs(units @ units.T - np.eye(3)).max() < 0.99


def test_each_layer_draws_its_own_direction():
    check_layers()


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("(seed, rank) if rank else seed", "seed"),
        ("lengths[layer] * unit", "lengths[candidate.layers[0]] * unit"),
    ],
    ids=["one draw for all layers", "one length for all layers"],
)
def test_a_mutant_draws_other_layers(passage, replacement):
    with mutant(equal_cost, passage, replacement) as changed, pytest.raises(AssertionError):
        check_layers(changed)


def test_a_mutant_draws_one_kind_alone():
    with mutant(equal_cost, '"covariance-matched" if number % 2 else', '"isotropic" if number % 2 else') as changed:
        assert not any(map(is_along, drawn_like(changed)))
