import pytest

from pipelines.sweep.protocol import ProbeSettings
from registry.errors import InvalidInput, Mismatch


def test_layers_are_all_or_named():
    assert ProbeSettings().chosen_layers(3, "tiny") == (0, 1, 2)
    assert ProbeSettings(layers="2,0").chosen_layers(3, "tiny") == (0, 2)
    with pytest.raises(Mismatch, match="layer 7 does not exist: tiny has 3 layers, 0 to 2"):
        ProbeSettings(layers="0,7").chosen_layers(3, "tiny")


def test_vectors_come_from_the_deeper_half():
    assert ProbeSettings().deep_layers((0, 1, 2, 3), 4) == (2, 3)
    assert ProbeSettings().deep_layers((0, 1), 8) == (1,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "fair"}, "'fair' is not one of sound, paper"),
        ({"pooling": "max"}, "last, mean"),
        ({"precision": "int8"}, "auto, float32, bfloat16"),
        ({"seeds": 0}, "seeds is 0"),
        ({"layers": "deep"}, "'deep'"),
    ],
)
def test_wrong_settings_are_refused_at_the_door(changes, words):
    with pytest.raises(InvalidInput, match=words):
        ProbeSettings(**changes)


def test_the_papers_protocol_has_one_split_and_where_it_runs_changes_no_number():
    assert ProbeSettings(protocol="paper", seeds=5).split_seeds == (0,)
    assert ProbeSettings(device="cpu").identity() == ProbeSettings(device="auto").identity()
    assert ProbeSettings(seeds=2).identity() != ProbeSettings(seeds=3).identity()
