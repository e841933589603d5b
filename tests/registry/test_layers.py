import pytest

from registry.errors import InvalidInput
from registry.layers import layer_or_range, layers_text, place_text, read_layers

TEXTS = {(3,): "3", (10, 11, 12, 13, 14): "10-14", (0, 1): "0-1", (2, 4): "2,4", (2, 8, 9, 10, 30): "2,8-10,30"}


@pytest.mark.parametrize(("layers", "text"), TEXTS.items())
def test_runs_of_layers_are_told_by_their_ends(layers, text):
    assert layers_text(layers) == text
    assert read_layers(text) == layers


def test_one_layer_is_the_number_it_has_always_been():
    assert [layer_or_range((3,)), layer_or_range((3, 4))] == [3, "3-4"]
    assert [place_text((3,)), place_text((3, 5))] == ["layer 3", "layers 3,5"]


@pytest.mark.parametrize("text", ["", "one", "-1", "1-", "3,,4", "1.5", "4-2", "3,3", "5,2", "1-4,4"])
def test_what_names_no_layers_in_order_is_refused(text):
    with pytest.raises(InvalidInput, match="are neither numbers nor ranges|are out of order"):
        read_layers(text)
