import base64
import dataclasses
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from registry.errors import CorruptFile, Mismatch
from registry.serialization import content_digest, probe_from_bytes, probe_to_bytes, vector_from_bytes, vector_to_bytes
from registry.vectors import Direction, Lineage, LinearProbe, SteeringVector
from tests.probe_qualities import GOOD

LINEAGE = Lineage(
    "tiny",
    "models:/ckpt.tiny/2",
    64,
    "step_000064",
    "ab" * 32,
    "cd" * 32,
    "packaged:remarks",
    "mass-mean",
    "r1",
    "c1",
    80,
)
VECTOR = SteeringVector.at_layer("toxicity", np.array([0.6, 0.8], np.float32), 0.1 + 0.2, 1, LINEAGE, 3.0, -0.5)
PROBE = LinearProbe("toxicity", 1, np.array([1.5, -2.5], np.float32), 0.25, LINEAGE)


def test_a_vector_and_a_probe_come_back_exactly():
    vector, probe = vector_from_bytes(vector_to_bytes(VECTOR)), probe_from_bytes(probe_to_bytes(PROBE))
    np.testing.assert_array_equal(vector.direction, VECTOR.direction)
    assert (vector.scale, vector.layer, vector.projection_mean) == (VECTOR.scale, VECTOR.layer, VECTOR.projection_mean)
    assert vector.lineage == probe.lineage == LINEAGE
    np.testing.assert_array_equal(probe.weights, PROBE.weights)
    assert probe.bias == PROBE.bias


def test_a_probe_of_answers_keeps_how_it_is_read():
    of_answers = dataclasses.replace(PROBE, window=8, quality=GOOD)
    content = probe_to_bytes(of_answers)
    probe = probe_from_bytes(content)
    assert (probe.window, probe.quality, probe.bias, probe.lineage) == (8, GOOD, PROBE.bias, LINEAGE)
    # A program of before would read each token by itself, so it has to refuse the file.
    assert (header_of(content)["schema_version"], header_of(probe_to_bytes(PROBE))["schema_version"]) == ("4", "2")
    for part in (b'"window":"8"', b"0.75"):
        with pytest.raises(CorruptFile, match="damaged"):
            probe_from_bytes(content.replace(part, part.translate(bytes.maketrans(b"85", b"96"))))


def test_equal_values_are_equal_bytes():
    assert {vector_to_bytes(VECTOR) for _ in range(8)} == {vector_to_bytes(VECTOR)}
    assert len(vector_to_bytes(VECTOR)) % 8 == 0


def header_of(content):
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length])["__metadata__"]


def rewritten(**changes):
    """The vector's file with some header fields changed, or removed when ``None``, by somebody who seals it again."""
    changed = header_of(vector_to_bytes(VECTOR)) | changes
    header = {key: value for key, value in changed.items() if value is not None}
    header["digest"] = content_digest(header, VECTOR.direction.tobytes())
    return save({"direction": VECTOR.direction}, metadata=header)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": "5"}, "'5'.*'1', '2', '3' and '4'"),
        ({"schema_version": "4"}, "with tensors \\['direction'\\], not a steering-vector"),
        ({"schema_version": "3"}, "with tensors \\['direction'\\], not a steering-vector"),
        ({"kind": "linear-probe"}, "linear-probe"),
        ({"scale": "nan"}, "scale is nan"),
        ({"scale": None}, "scale"),
        ({"layer": "one"}, "one"),
        ({"run_id": None}, "run_id"),
    ],
)
def test_a_header_that_lies_or_lacks_something_is_refused(changes, words):
    with pytest.raises(CorruptFile, match=words):
        vector_from_bytes(rewritten(**changes))


def test_a_vector_of_another_width_is_refused_with_both_widths():
    with pytest.raises(Mismatch, match=r"\(2,\).*576"):
        vector_from_bytes(vector_to_bytes(VECTOR), d_model=576)


@pytest.mark.parametrize(
    "tensors",
    [
        {"direction": np.array([0.6, 0.8])},
        {"direction": np.array([0.6, 0.9], np.float32)},
        {"direction": np.array([[0.6, 0.8]], np.float32)},
        {"weights": np.array([0.6, 0.8], np.float32)},
    ],
)
def test_tensors_of_another_type_length_shape_or_name_are_refused(tensors):
    header = header_of(vector_to_bytes(VECTOR))
    (values,) = tensors.values()
    header["digest"] = content_digest(header, values.tobytes())
    with pytest.raises(CorruptFile, match="type|length|shape|tensors"):
        vector_from_bytes(save(tensors, metadata=header))


@given(st.integers(0, len(vector_to_bytes(VECTOR)) - 1))
@settings(max_examples=60, deadline=None)
def test_a_truncated_file_is_refused(length):
    with pytest.raises(CorruptFile):
        vector_from_bytes(vector_to_bytes(VECTOR)[:length])


@given(st.integers(0, len(vector_to_bytes(VECTOR)) - 1), st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_is_refused(place, bit):
    damaged = bytearray(vector_to_bytes(VECTOR))
    damaged[place] ^= 1 << bit
    with pytest.raises(CorruptFile):
        vector_from_bytes(bytes(damaged))


def test_a_number_that_was_changed_without_sealing_is_refused():
    content = vector_to_bytes(VECTOR).replace(b'"layer":"1"', b'"layer":"2"')
    with pytest.raises(CorruptFile, match="damaged.*register it again"):
        vector_from_bytes(content)


def test_a_huge_header_is_refused_unread():
    with pytest.raises(CorruptFile):
        vector_from_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def test_a_file_written_by_version_one_stays_readable():
    golden = base64.b64decode(GOLDEN_VECTOR_V1)
    vector = vector_from_bytes(golden)
    np.testing.assert_array_equal(vector.direction, VECTOR.direction)
    assert vector.scale == VECTOR.scale
    assert vector.lineage == LINEAGE


def test_the_digest_of_version_two_stays_what_it_is():
    assert (
        header_of(vector_to_bytes(VECTOR))["digest"]
        == "8b6c10c9ac761eb302f275679f6998dc7807b78b5c3d1a83b1cbbc230ff3e2ca"
    )


OFFSETS = ((2, (0.6, 0.8), 0.1 + 0.2), (11, (1.0, 0.0), 2.0))
SEVERAL = SteeringVector(
    "toxicity",
    tuple(Direction(layer, np.array(unit, np.float32), scale, 3.0, -0.5) for layer, unit, scale in OFFSETS),
    LINEAGE,
)


def test_a_vector_of_several_layers_comes_back_exactly():
    content = vector_to_bytes(SEVERAL)
    vector = vector_from_bytes(content, d_model=2)
    assert (vector.layers, vector.lineage, vector.dimension) == ((2, 11), LINEAGE, "toxicity")
    for found, written in zip(vector.directions, SEVERAL.directions, strict=True):
        np.testing.assert_array_equal(found.unit, written.unit)
        assert (found.scale, found.mean_difference_norm, found.projection_mean) == (written.scale, 3.0, -0.5)
    assert {vector_to_bytes(SEVERAL) for _ in range(8)} == {content}
    assert header_of(content)["schema_version"] == "3"
    with pytest.raises(Mismatch, match=r"\(2,\).*576"):
        vector_from_bytes(content, d_model=576)


@given(st.integers(0, len(vector_to_bytes(SEVERAL)) - 1), st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_of_several_layers_is_refused(place, bit):
    damaged = bytearray(vector_to_bytes(SEVERAL))
    damaged[place] ^= 1 << bit
    with pytest.raises(CorruptFile):
        vector_from_bytes(bytes(damaged))


def test_directions_that_changed_places_are_refused():
    header = header_of(vector_to_bytes(SEVERAL))
    units = {f"direction.{direction.layer}": direction.unit for direction in reversed(SEVERAL.directions)}
    swapped = dict(zip(units, reversed(units.values()), strict=True))
    with pytest.raises(CorruptFile, match="damaged"):
        vector_from_bytes(save(swapped, metadata=header))


def test_a_probe_of_several_layers_is_none():
    header = {**header_of(probe_to_bytes(PROBE)), "schema_version": "3"}
    with pytest.raises(CorruptFile, match="not a linear-probe"):
        probe_from_bytes(save({"weights": PROBE.weights}, metadata=header))


GOLDEN_VECTOR_V1 = (
    "gAIAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJ3ZWlnaHRzX2RpZ2VzdCI6ImFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFi"
    "YWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWIiLCJwcm9qZWN0aW9uX21lYW4iOiItMC41IiwibWV0aG9kIjoibWFzcy1t"
    "ZWFuIiwiY29kZV9jb21taXQiOiJjMSIsIm5fdHJhaW4iOiI4MCIsImtpbmQiOiJzdGVlcmluZy12ZWN0b3IiLCJjaGVja3BvaW50"
    "X3N0ZXAiOiI2NCIsImNoZWNrcG9pbnRfcmV2aXNpb24iOiJzdGVwXzAwMDA2NCIsInN0YXRlbWVudHNfc291cmNlIjoicGFja2Fn"
    "ZWQ6cmVtYXJrcyIsIm1vZGVsIjoidGlueSIsInNjYWxlIjoiMC4zMDAwMDAwMDAwMDAwMDAwNCIsInN0YXRlbWVudHNfZGlnZXN0"
    "IjoiY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZCIsInJ1bl9p"
    "ZCI6InIxIiwiZGltZW5zaW9uIjoidG94aWNpdHkiLCJsYXllciI6IjEiLCJzY2hlbWFfdmVyc2lvbiI6IjEiLCJtZWFuX2RpZmZl"
    "cmVuY2Vfbm9ybSI6IjMuMCIsImNoZWNrcG9pbnRfdXJpIjoibW9kZWxzOi9ja3B0LnRpbnkvMiJ9LCJkaXJlY3Rpb24iOnsiZHR5"
    "cGUiOiJGMzIiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOlswLDhdfX0gICAgmpkZP83MTD8="
)
