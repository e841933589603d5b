import pytest

from registry import errors
from registry.errors import TrustTraceError, UnknownName, unknown_name


def test_every_error_stands_in_the_tree_that_the_module_draws():
    drawn = [word for line in errors.__doc__.splitlines() for word in line.split() if hasattr(errors, word)]
    made = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, TrustTraceError)]
    assert sorted(drawn) == sorted(one.__name__ for one in made)


def test_errors_can_be_caught_by_the_names_that_python_gives_them():
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.Mismatch, ValueError)
    assert issubclass(errors.NotFound, LookupError)
    assert issubclass(UnknownName, errors.InvalidInput)


def test_an_unknown_name_comes_with_the_nearest_and_with_all():
    with pytest.raises(
        UnknownName, match=r"unknown dimension 'toxcity'; did you mean 'toxicity'\? known: privacy, toxicity"
    ):
        raise unknown_name("dimension", "toxcity", ["privacy", "toxicity"])
    assert str(unknown_name("dimension", "x", ["privacy"])) == "unknown dimension 'x'; known: privacy"
