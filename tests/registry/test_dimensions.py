import pytest

from registry.dimensions import DIMENSIONS, Dimension, dimension, parse_dimensions
from registry.errors import InvalidInput, UnknownName


def test_the_five_dimensions_say_what_both_labels_mean():
    assert list(DIMENSIONS) == ["reliability", "privacy", "toxicity", "fairness", "robustness"]
    for member in DIMENSIONS.values():
        assert member.meaning
        assert member.trustworthy != member.untrustworthy


def test_a_misspelt_dimension_is_met_with_the_nearest_one():
    with pytest.raises(UnknownName, match="did you mean 'toxicity'"):
        dimension("toxcity")


def test_a_dimension_of_the_users_own_joins_the_five():
    own = Dimension("politeness", "being polite", "a polite statement", "a rude statement")
    assert dimension("politeness", [own]) is own
    assert parse_dimensions("all", [own])[-1] is own


def test_a_selection_keeps_its_order_and_drops_repetitions():
    assert [member.name for member in parse_dimensions("fairness, privacy,fairness")] == ["fairness", "privacy"]
    with pytest.raises(InvalidInput, match="names none"):
        parse_dimensions(" , ")
