import pytest

from registry.errors import InvalidInput
from registry.model_names import model_short_name, named_model


def test_a_model_may_be_given_a_name(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert named_model("Seed-A=/runs/a/checkpoints") == ("seed-a", "/runs/a/checkpoints")
    assert named_model("a=b=c") == ("a", "b=c")
    for unnamed in ("org/model", "/x/epoch=0-step=5", "=x", "x=", str(tmp_path / "a=b")):
        assert named_model(unnamed) == ("", unnamed)


def test_short_names_fit_the_registry():
    assert model_short_name("EleutherAI/pythia-70m") == "pythia-70m"
    assert model_short_name("/home/me/My Models:v2/") == "my-models-v2"
    assert model_short_name("/home/me/Модель") == model_short_name("модель") == "модель"
    with pytest.raises(InvalidInput):
        model_short_name("org/::")
