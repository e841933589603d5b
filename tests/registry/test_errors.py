import pytest

from registry import errors
from registry.errors import TrustTraceError, UnknownName, unknown_name


def test_the_docstring_draws_every_error():
    drawn = [word for line in errors.__doc__.splitlines() for word in line.split() if hasattr(errors, word)]
    made = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, TrustTraceError)]
    assert sorted(drawn) == sorted(error.__name__ for error in made)


def test_errors_are_caught_by_pythons_names():
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
