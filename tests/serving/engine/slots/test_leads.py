"""Leads: who has had less is never behind who has had more, nobody starves, and idleness earns nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.slots import leads
from serving.engine.slots.leads import Leads, shared
from tests.mutants import mutant

PATIENCE = 0.5
DEAREST = 2.0
"""Seconds that a step costs a client at most."""

names = st.sampled_from("abcdef")
cost = st.floats(0.01, DEAREST)
step = st.tuples(st.frozensets(names), st.fixed_dictionaries({name: cost for name in "abcdefxy"}))
"""Who else has work in a step, and what it costs each client that computes in it."""
steps = st.lists(step, min_size=1, max_size=60)


def had_by(steps, backlogged, module=leads):
    """Seconds that each of ``backlogged``, which always has work, has had after each step."""
    of_now, had, course = module.Leads(), dict.fromkeys(backlogged, 0.0), []
    for others, costs in steps:
        of_now = of_now.among({*others, *backlogged})
        computing = of_now.next_of({*others, *backlogged}, PATIENCE)
        assert computing
        of_now = of_now.charged({client: costs[client] for client in computing})
        had = {client: had[client] + costs[client] * (client in computing) for client in backlogged}
        course.append(had)
    return course


@given(steps)
@settings(deadline=None)
def test_clients_with_work_stay_close(steps):
    for had in had_by(steps, "xy"):
        assert abs(had["x"] - had["y"]) <= PATIENCE + DEAREST + 1e-6


@given(steps)
@settings(deadline=None)
def test_nobody_starves_whoever_comes(steps):
    before, waited = 0.0, 0
    for had in had_by(steps, "x"):
        waited = 0 if had["x"] > before else waited + 1
        before = had["x"]
        assert waited <= DEAREST / 0.01 + 1  # steps of the cheapest kind, until the least of the others has had as much


@given(st.frozensets(names, min_size=1), st.fixed_dictionaries({name: cost for name in "abcdef"}))
@settings(deadline=None)
def test_who_comes_computes_at_once(clients, costs):
    ahead = Leads().among(clients).charged(costs).among({*clients, "new"})
    assert "new" in ahead.next_of({*clients, "new"}, 0.0)
    assert ahead.of("new") == min(ahead.of(client) for client in clients) == 0.0


def test_idleness_earns_nothing():
    others = Leads().among("ab").charged({"a": 1.0, "b": 1.0})
    for _ in range(100):
        others = others.among("b").charged({"b": 1.0})
    back = others.among("ab")
    assert back.of("a") == back.of("b") == 0.0


def test_who_leaves_and_comes_is_forgiven_nothing():
    ahead = Leads().among("ab").charged({"a": 3.0, "b": 1.0})
    gone = ahead.among("b").charged({"b": 0.5})
    assert gone.among("ab").at_work == {"a": 1.5, "b": 0.0}
    assert gone.charged({"b": 1.5}).among("b").gone == {}


def test_who_is_alone_computes_whatever_it_has_had():
    alone = Leads().among("a").charged({"a": 99.0})
    assert alone.next_of("a", 0.0) == {"a"}
    assert alone.among("a") == Leads({"a": 0.0})
    assert Leads().next_of("", 0.0) == frozenset()


def test_who_cannot_compute_holds_nobody_back():
    ahead = Leads().among("abc").charged({"a": 2.0, "b": 1.0})
    assert ahead.next_of("ab", 0.5) == {"b"}
    assert ahead.next_of("ab", 1.0) == {"a", "b"}
    assert ahead.next_of("abc", 0.5) == {"c"}


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("known.get(client, 0.0) - least)", "-least)"),
        ("known.get(client, 0.0) - least)", "known.get(client, 0.0))"),
        ("self.of(client) <= least + patience", "self.of(client) > least + patience"),
        ("lead + seconds.get(client, 0.0)", "lead"),
        ("min(map(self.of, able), default=0.0)", "0.0"),
    ],
)
def test_a_change_of_a_rule_is_noticed(passage, replacement):
    """Two with work and unequal costs, beside others that come and go, and at last one that stays."""
    costs = {"x": 0.5, "y": 0.1, "a": 0.3, "b": 0.2, "late": 0.1}
    steps = [(frozenset("ab"[: n % 3]), costs) for n in range(60)] + [({"late"}, costs)] * 20

    def is_fair(module):
        try:
            course = had_by(steps, "xy", module)
        except AssertionError:
            return False
        before, after = course[59], course[-1]
        if module.Leads({"a": 2.0, "b": 1.0, "waits": 0.0}).next_of("ab", PATIENCE) != {"b"}:
            return False
        return abs(after["x"] - after["y"]) <= PATIENCE + 0.5 and before["x"] > 2 and after["x"] > before["x"] + 1

    assert is_fair(leads)
    with mutant(leads, passage, replacement) as changed:
        assert not is_fair(changed)


def test_a_step_is_shared_by_tokens():
    assert shared(3.0, {"a": 1, "b": 5}) == pytest.approx({"a": 0.5, "b": 2.5})
    assert shared(3.0, {}) == {}
