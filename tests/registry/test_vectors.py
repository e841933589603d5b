import dataclasses

import numpy as np
import pytest

from registry.errors import InvalidInput, Mismatch
from registry.vectors import Direction, Lineage, LinearProbe, SteeringVector
from tests.probe_qualities import GOOD, POOR


def lineage(**changes):
    fields = {
        "model": "tiny",
        "checkpoint_uri": "models:/ckpt.tiny/2",
        "checkpoint_step": 64,
        "checkpoint_revision": "step_000064",
        "weights_digest": "ab" * 32,
        "statements_digest": "cd" * 32,
        "statements_source": "packaged:remarks",
        "method": "mass-mean",
        "run_id": "r1",
        "code_commit": "unknown",
        "n_train": 80,
    }
    return Lineage(**{**fields, **changes})


def vector(**changes):
    fields = {
        "dimension": "toxicity",
        "direction": np.array([0.6, 0.8, 0.0], np.float32),
        "scale": 2.0,
        "layer": 1,
        "lineage": lineage(),
        "mean_difference_norm": 3.0,
        "projection_mean": 0.5,
    }
    return SteeringVector.at_layer(**{**fields, **changes})


def test_one_unit_of_strength_moves_one_standard_deviation():
    np.testing.assert_allclose(vector().offset(1.5), [1.8, 2.4, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(vector().offset(0.0), np.zeros(3))


@pytest.mark.parametrize(
    "changes",
    [
        {"direction": np.array([3.0, 4.0], np.float32)},
        {"direction": np.array([np.nan, 1.0], np.float32)},
        {"direction": np.array([0.6, 0.8])},
        {"direction": np.eye(2, dtype=np.float32)},
        {"scale": 0.0},
        {"scale": float("inf")},
        {"layer": -1},
        {"projection_mean": float("nan")},
        {"mean_difference_norm": -1.0},
    ],
)
def test_what_cannot_steer_cannot_be_made(changes):
    with pytest.raises(InvalidInput):
        vector(**changes)


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        vector().scale = 3.0


def test_a_lineage_survives_as_strings_and_misses_nothing():
    assert Lineage.from_strings(lineage().to_strings()) == lineage()
    incomplete = lineage().to_strings()
    del incomplete["run_id"]
    with pytest.raises(InvalidInput, match="run_id"):
        Lineage.from_strings(incomplete)


def test_a_probe_is_a_logistic_function_of_the_hidden_state():
    probe = LinearProbe("toxicity", 1, np.array([1.0, -2.0], np.float32), 0.5, lineage())
    states = np.array([[0.0, 0.0], [1.0, 2.0], [1000.0, 0.0]], np.float32)
    np.testing.assert_allclose(probe.probability(states), [1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(2.5)), 1], rtol=1e-5)
    with pytest.raises(Mismatch):
        probe.probability(np.zeros((1, 3), np.float32))


def several(layers=(1, 2, 5), widths=(3, 3, 3)):
    units = [np.eye(width, dtype=np.float32)[number] for number, width in enumerate(widths)]
    directions = [Direction(layer, unit, 2.0 + layer, 3.0, 0.5) for layer, unit in zip(layers, units, strict=True)]
    return SteeringVector("toxicity", tuple(directions), lineage())


def test_one_strength_scales_the_directions_of_all_layers():
    vector = several()
    offsets = vector.offsets(1.5)
    assert (vector.layers, vector.d_model, list(offsets)) == ((1, 2, 5), 3, [1, 2, 5])
    for number, layer in enumerate(vector.layers):
        np.testing.assert_allclose(offsets[layer], 1.5 * (2.0 + layer) * np.eye(3)[number])
    assert vector.length == pytest.approx(np.linalg.norm(np.concatenate(list(vector.offsets(1.0).values()))))
    turned = vector.with_units([vector.at(layer).unit for layer in (5, 1, 2)])
    assert [each.scale for each in turned.directions] == [3.0, 4.0, 7.0]
    np.testing.assert_array_equal(turned.at(1).unit, vector.at(5).unit)


def test_several_layers_are_never_read_as_one():
    for name in ("layer", "direction", "scale", "projection_mean", "single"):
        with pytest.raises(InvalidInput, match=r"has directions at layers 1-2,5: read its `directions`"):
            getattr(several(), name)
    with pytest.raises(InvalidInput, match="steers layers 1-2,5, not layer 3"):
        several().at(3)


@pytest.mark.parametrize(
    "changes", [{"layers": (2, 1, 5)}, {"layers": (1, 1, 5)}, {"layers": (), "widths": ()}, {"widths": (3, 4, 3)}]
)
def test_directions_that_are_no_set_make_no_vector(changes):
    with pytest.raises(InvalidInput):
        several(**changes)


def test_a_reading_is_that_of_the_mean_over_its_window():
    states = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    for window in (1, 2, 4, 20):
        probe = LinearProbe("toxicity", 1, np.array([1.5, -2.5, 1.0], np.float32), 0.25, lineage(), window, GOOD)
        means = np.stack([states[max(0, token + 1 - window) : token + 1].mean(axis=0) for token in range(9)])
        np.testing.assert_allclose(probe.readings(probe.logits(states)), probe.probability(means), atol=1e-6)
    assert len(probe.readings(probe.logits(states[:0]))) == 0


def test_a_window_belongs_to_a_probe_of_answers():
    weights = np.array([1.0, 0.0], np.float32)
    for window, quality in ((0, GOOD), (-1, GOOD), (8, None)):
        with pytest.raises(InvalidInput, match=f"a window of {window} tokens"):
            LinearProbe("toxicity", 1, weights, 0.0, lineage(), window, quality)
    used = [LinearProbe("toxicity", 1, weights, 0.0, lineage(), 8, quality).works for quality in (GOOD, POOR)]
    assert used == [True, False]
    assert LinearProbe("toxicity", 1, weights, 0.0, lineage()).works
