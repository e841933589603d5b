"""Random directions whose cost is that of a vector."""

import math

import numpy as np
import pytest

from pipelines.calibrate import equal_cost
from pipelines.calibrate.candidates import Candidate
from pipelines.calibrate.equal_cost import drawn_direction, strength_at_cost
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


def drawn_like(module=equal_cost):
    """Of a candidate at layer 2 whose activations scatter along one axis."""
    states = np.outer(np.random.default_rng(3).normal(size=50), [3.0, 4.0, 0.0]).astype(np.float32)
    candidate = Candidate("optimised", 2, np.array([0.0, 0.0, 1.0], np.float32), 5.0)
    return list(module.random_like(candidate, states, 4, seed=0))


def test_directions_are_of_both_kinds_by_turns():
    drawn = drawn_like()
    assert {(each.label, each.layer, each.scale, each.registered) for each in drawn} == {("random", 2, 5.0, None)}
    along = [abs(each.unit @ [0.6, 0.8, 0.0]) > 1 - 1e-5 for each in drawn]
    assert along == [False, True, False, True]
    assert [each.unit.tolist() for each in drawn_like()] == [each.unit.tolist() for each in drawn]


def test_a_mutant_draws_one_kind_alone():
    with mutant(equal_cost, '"covariance-matched" if number % 2 else', '"isotropic" if number % 2 else') as changed:
        assert not any(abs(each.unit @ [0.6, 0.8, 0.0]) > 1 - 1e-5 for each in drawn_like(changed))
