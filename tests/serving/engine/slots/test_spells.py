"""Spells: what a client has had since it came, forgiven by as long as it stays away."""

import pytest

from serving.engine.slots import spells
from serving.engine.slots.spells import Spells
from tests.mutants import mutant


def test_who_has_had_at_most_so_much_is_short():
    had = Spells().among("ab", 0.0).charged({"a": 3.0, "b": 0.5})
    assert had.short("ab", 1.0) == had.short("ab", 0.5) == {"b"}
    assert had.short("ab", 3.0) == {"a", "b"} and had.short("ab", 0.1) == frozenset()
    assert had.short({"a", "new"}, 0.0) == {"new"}


def test_as_much_is_forgiven_as_the_time_away():
    had = Spells().among("ab", 0.0).charged({"a": 3.0, "b": 1.0})
    away = had.among("b", 10.0)
    assert away.among("ab", 12.0).had == {"a": 1.0, "b": 1.0}
    assert away.among("b", 12.0).among("ab", 12.5).had == {"a": 0.5, "b": 1.0}
    assert away.among("ab", 99.0).had == {"a": 0.0, "b": 1.0}


def test_who_was_away_long_enough_is_forgotten():
    away = Spells().among("a", 0.0).charged({"a": 3.0}).among("b", 10.0)
    assert away.among("b", 12.9).left == {"a": 10.0}
    assert away.among("b", 13.0) == Spells({"b": 0.0})


def test_who_comes_back_and_leaves_is_forgiven_from_then_on():
    away = Spells().among("a", 0.0).charged({"a": 3.0}).among("", 10.0)
    again = away.among("a", 11.0).charged({"a": 1.0}).among("", 20.0)
    assert again == Spells({"a": 3.0}, {"a": 20.0})
    assert again.among("a", 21.0).had == {"a": 2.0}


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("self.left.get(client, now) for client in self.had", "now for client in self.had"),
        ("- now + self.left.get(client, now))", ")"),
        ("had + seconds.get(client, 0.0)", "had"),
        ("<= most)", "< most)"),
        ("self.had[client] > now - since", "self.had[client] >= now - since"),
    ],
)
def test_a_change_of_a_rule_is_noticed(passage, replacement):
    def holds(module):
        had = module.Spells().among("ab", 0.0).charged({"a": 3.0, "b": 1.0})
        away = had.among("b", 10.0).among("b", 11.0)
        return (
            had.short("ab", 1.0) == {"b"}
            and away.among("ab", 12.0).had == {"a": 1.0, "b": 1.0}
            and away.among("b", 13.0).had == {"b": 1.0}
        )

    assert holds(spells)
    with mutant(spells, passage, replacement) as changed:
        assert not holds(changed)
