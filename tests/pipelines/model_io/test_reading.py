import pytest

from pipelines.model_io.reading import Reading, deep_layers
from registry.errors import InvalidInput, Mismatch


def test_layers_are_all_or_named():
    assert Reading().chosen_layers(3, "tiny") == (0, 1, 2)
    assert Reading(layers="2,0").chosen_layers(3, "tiny") == (0, 2)
    with pytest.raises(Mismatch, match="layer 7 does not exist: tiny has 3 layers, 0 to 2"):
        Reading(layers="0,7").chosen_layers(3, "tiny")


def test_vectors_come_from_the_deeper_half():
    assert deep_layers((0, 1, 2, 3), 4) == (2, 3)
    assert deep_layers((0, 1), 8) == (1,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pooling": "max"}, "last, mean"),
        ({"layers": "deep"}, "'deep' is neither 'all' nor"),
        ({"layers": "1\u00b2"}, "is neither 'all' nor"),
    ],
)
def test_wrong_readings_are_refused(changes, words):
    with pytest.raises(InvalidInput, match=words):
        Reading(**changes)
