import pytest

from serving.api.errors import ApiError
from serving.api.steering.shorthand import format_strengths, parse_strengths, split_alias


def test_strengths_are_read_as_they_are_written():
    strengths = {"toxicity": 1.5, "privacy": -0.25, "诚实": 2.0}
    assert parse_strengths(format_strengths(strengths), "x").strengths == strengths
    assert parse_strengths(" toxicity = 1 , privacy=2e-1 ", "x").strengths == {"toxicity": 1.0, "privacy": 0.2}
    assert parse_strengths("off", "x") == "off"


@pytest.mark.parametrize("text", ["", "toxicity", "toxicity=", "=1", "toxicity=inf", "a=1,a=2", "a=1,", "a=1_0"])
def test_other_texts_are_refused_by_field(text):
    with pytest.raises(ApiError, match="toxicity=1.5") as refused:
        parse_strengths(text, "model")
    assert (refused.value.param, refused.value.code) == ("model", "invalid_steering")


def test_a_second_strength_behind_a_semicolon_is_refused():
    with pytest.raises(ApiError, match="'b=2' behind a semicolon") as refused:
        parse_strengths("a=1;b=2", "model")
    assert (refused.value.param, refused.value.code) == ("model", "invalid_steering")


def test_an_alias_is_a_name_and_strengths():
    assert split_alias("smollm2@toxicity=1.5") == ("smollm2", "toxicity=1.5")
    assert split_alias("smollm2") == ("smollm2", None)
    assert split_alias(None) == (None, None)
