from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.vectors.experiment import require_layers
from pipelines.vectors.methods import FittedDirection
from pipelines.vectors.places import (
    gathered,
    layers_of,
    names_places,
    read_places,
    require_trainable,
    with_directions,
)
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput, Mismatch

CHECKPOINT = Checkpoint("tiny", "/tiny", "step_64", 64)


def test_numbers_are_single_layers_and_ranges_one_vector():
    assert read_places("8, 12,10-14", 30, "m") == ((8,), (10, 11, 12, 13, 14), (12,))
    assert read_places("2,2,1-1", 3, "m") == ((1,), (2,))
    assert layers_of(read_places("8,12,10-14", 30, "m")) == (8, 10, 11, 12, 13, 14)


@pytest.mark.parametrize(
    ("spec", "named"), [("3", True), ("1,2-4", True), ("best", False), ("1;2", False), ("4-2", False)]
)
def test_other_words_name_no_places(spec, named):
    assert names_places(spec) == named


def test_a_layer_that_the_model_lacks_is_refused():
    with pytest.raises(Mismatch, match="layer 3 does not exist: m has 3 layers, 0 to 2"):
        read_places("1,0-3", 3, "m")


def test_what_is_trained_at_one_layer_has_no_range():
    require_trainable([(1,), (2,)], ["optimised"])
    require_trainable([(1, 2)], ["mass-mean"])
    with pytest.raises(InvalidInput, match="`methods` optimised trains a vector at one layer and `layers` names 1-2"):
        require_trainable([(0,), (1, 2)], ["mass-mean", "optimised"])


@pytest.mark.parametrize(
    ("spec", "methods", "told"),
    [("deepest", ["pca"], "layers 'deepest' is neither 'best'"), ("8,10-14", ["optimised"], "trains a vector at one")],
)
def test_layers_are_refused_before_anything_is_read(spec, methods, told):
    with pytest.raises(InvalidInput, match=told):
        require_layers(spec, methods)


def test_layers_that_can_be_made_pass():
    for spec, methods in (("best", ["optimised"]), ("champion", ["pca"]), ("8,12", ["optimised"]), ("8-12", ["pca"])):
        require_layers(spec, methods)


def test_a_place_needs_the_method_at_each_of_its_layers():
    def fitted(method, seed=0):
        return FittedDirection(method, seed, np.ones(1, np.float32), 1.0, 0.0)

    made = [(layer, fitted("pca")) for layer in (0, 1, 2)] + [(1, fitted("lda")), (1, fitted("random", 3))]
    found = list(gathered(made, [(1,), (0, 1), (1, 2)]))
    told = [(next(iter(each.values())).label, tuple(each)) for each in found]
    assert told == [("pca", (1,)), ("pca", (0, 1)), ("pca", (1, 2)), ("lda", (1,)), ("random_3", (1,))]


def test_places_without_a_direction_are_left_out_by_name():
    unit = SimpleNamespace(layers_without_direction=(0, 1), checkpoint=CHECKPOINT, dimension="toxicity")
    able, line = with_directions([(0,), (1, 2), (2,), (2, 3)], unit)
    assert able == ((2,), (2, 3))
    assert line == "step 64: no vector for toxicity at layers 0-1, where the class means coincide"
    assert with_directions([(2,)], unit) == (((2,),), "")
