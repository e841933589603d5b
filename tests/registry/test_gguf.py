"""Control vectors against the ``gguf`` package's own reader and writer, and llama.cpp's rules for a file."""

import dataclasses
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import CorruptFile, InvalidInput, TrustTraceError
from registry.gguf import vector_from_gguf, vector_to_gguf
from registry.gguf_reader import read_gguf
from registry.vectors import Lineage, SteeringVector

LINEAGE = Lineage(
    model="tiny",
    checkpoint_uri="models:/ckpt.tiny/2",
    checkpoint_step=-1,
    checkpoint_revision="init",
    weights_digest="ab" * 32,
    statements_digest="cd" * 32,
    statements_source="packaged:remarks",
    method="mass-mean",
    run_id="r1",
    code_commit="c1",
    n_train=80,
)
VECTOR = SteeringVector.at_layer("toxicity", np.array([0.6, 0.8, 0.0], np.float32), 2.0, 3, LINEAGE, 3.0, 0.5)


def foreign(path: Path, tensors, *, architecture="controlvector"):
    """A file as repeng and llama.cpp's generator write them: no metadata of ours."""
    writer = GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(tensors))
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_what_is_written_is_a_control_vector_to_llama_cpp(tmp_path):
    path = tmp_path / "vector.gguf"
    path.write_bytes(vector_to_gguf(VECTOR, 1.5, model_hint="llama"))
    read = GGUFReader(path)
    assert read.get_field("general.architecture").contents() == "controlvector"
    assert read.get_field("controlvector.model_hint").contents() == "llama"
    assert read.get_field("controlvector.layer_count").contents() == 1
    (tensor,) = read.tensors
    assert tensor.name == "direction.3"
    assert tensor.tensor_type == GGMLQuantizationType.F32
    np.testing.assert_allclose(tensor.data, [1.8, 2.4, 0.0], rtol=1e-6)


def test_a_vector_returns_with_lineage_and_strength():
    back = vector_from_gguf(vector_to_gguf(VECTOR, 1.5))
    assert (back.dimension, back.layer) == ("toxicity", 3)
    assert back.scale == pytest.approx(3.0)
    np.testing.assert_allclose(back.direction, VECTOR.direction, rtol=1e-6)
    np.testing.assert_allclose(back.offset(1.0), VECTOR.offset(1.5), rtol=1e-6)
    assert back.lineage == dataclasses.replace(LINEAGE, method="gguf import")


def test_a_foreign_file_is_one_vector_over_its_layers(tmp_path):
    tensors = {f"direction.{layer}": np.full(4, layer % 3, np.float32) for layer in (10, 2, 3)}
    content = foreign(tmp_path / "foreign.gguf", tensors)
    vector = vector_from_gguf(content, dimension="toxicity", lineage=LINEAGE)
    assert vector.layers == (2, 10)  # layer 3 is zero
    assert [direction.scale for direction in vector.directions] == pytest.approx([4.0, 2.0])
    assert vector.lineage.method == "gguf import"


def test_several_layers_go_out_and_come_back_whole(tmp_path):
    content = foreign(
        tmp_path / "foreign.gguf", {f"direction.{layer}": np.full(4, layer, np.float32) for layer in (2, 9)}
    )
    vector = vector_from_gguf(content, dimension="toxicity", lineage=LINEAGE)
    path = tmp_path / "vector.gguf"
    path.write_bytes(vector_to_gguf(vector, 1.5))
    read = GGUFReader(path)
    assert read.get_field("controlvector.layer_count").contents() == 2
    assert {tensor.name: tensor.data.tolist() for tensor in read.tensors} == {
        "direction.2": pytest.approx([3.0] * 4), "direction.9": pytest.approx([13.5] * 4)
    }  # fmt: skip
    back = vector_from_gguf(path.read_bytes())
    assert back.layers == (2, 9)
    for layer, offset in vector.offsets(1.5).items():
        np.testing.assert_allclose(back.offsets(1.0)[layer], offset, rtol=1e-6)


def test_a_foreign_file_needs_dimension_and_lineage(tmp_path):
    content = foreign(tmp_path / "foreign.gguf", {"direction.1": np.ones(4, np.float32)})
    with pytest.raises(InvalidInput, match="dimension="):
        vector_from_gguf(content, lineage=LINEAGE)
    with pytest.raises(InvalidInput, match="lineage="):
        vector_from_gguf(content, dimension="toxicity")


def test_layer_zero_and_negative_strengths_are_not_exported():
    with pytest.raises(InvalidInput, match="layer 0"):
        vector_to_gguf(dataclasses.replace(VECTOR, directions=(dataclasses.replace(VECTOR.single, layer=0),)))
    for strength in (0.0, -1.0, float("nan"), float("inf"), 1e300):
        with pytest.raises(InvalidInput, match="must be a positive number"):
            vector_to_gguf(VECTOR, strength)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"direction.0": np.ones(4, np.float32)}, "layers from 1"),
        ({"direction.1": np.ones(4, np.float32), "direction.01": np.ones(4, np.float32)}, "tensor 'direction.01'"),
        ({"direction.\u0663": np.ones(4, np.float32)}, "direction.<layer>"),
        ({"output.weight": np.ones(4, np.float32)}, "direction.<layer>"),
        ({"direction.1": np.ones(4, np.float16)}, "GGML type 1"),
        ({"direction.1": np.ones((2, 2), np.float32)}, r"\(2, 2\)"),
        ({"direction.1": np.array([1, np.nan], np.float32)}, "finite"),
        ({"direction.1": np.zeros(4, np.float32)}, "steers nothing"),
        ({"direction.1": np.ones(4, np.float32), "direction.2": np.ones(5, np.float32)}, r"\[4, 5\]"),
    ],
)
def test_tensors_that_no_control_vector_has_are_refused(tmp_path, tensors, words):
    content = foreign(tmp_path / "foreign.gguf", tensors)
    with pytest.raises(CorruptFile, match=words):
        vector_from_gguf(content, dimension="toxicity", lineage=LINEAGE)


def test_a_tensor_that_is_there_twice_is_refused(tmp_path):
    content = foreign(
        tmp_path / "foreign.gguf", {"direction.1": np.ones(4, np.float32), "direction.2": np.ones(4, np.float32)}
    )
    with pytest.raises(CorruptFile, match="the tensor 'direction.1' more than once"):
        vector_from_gguf(content.replace(b"direction.2", b"direction.1"), dimension="toxicity", lineage=LINEAGE)


def test_a_model_is_no_control_vector(tmp_path):
    content = foreign(tmp_path / "model.gguf", {"direction.1": np.ones(4, np.float32)}, architecture="llama")
    with pytest.raises(CorruptFile, match=r"'llama'.*'controlvector'"):
        vector_from_gguf(content, dimension="toxicity", lineage=LINEAGE)


def test_our_reader_agrees_with_the_gguf_package_on_every_type(tmp_path):
    path = tmp_path / "all.gguf"
    writer = GGUFWriter(path, "controlvector")
    writer.add_custom_alignment(64)
    values = {
        "a": ("uint8", 7),
        "b": ("int16", -7),
        "c": ("uint64", 1 << 60),
        "d": ("float64", 0.1),
        "e": ("bool", True),
    }
    for key, (kind, value) in values.items():
        getattr(writer, f"add_{kind}")(key, value)
    writer.add_string("f", "ünï")
    writer.add_array("g", [1, 2, 3])
    writer.add_array("h", ["x", "y"])
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    writer.add_tensor("one", matrix)
    writer.add_tensor("two", matrix[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    theirs, ours = GGUFReader(path), read_gguf(path.read_bytes())
    assert ours.metadata == {
        key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")
    }
    for tensor in theirs.tensors:
        np.testing.assert_array_equal(ours.tensors[tensor.name], tensor.data)


PADDING = 20
"""After a tensor of 12 bytes, up to the alignment of 32."""


@given(st.integers(0, len(vector_to_gguf(VECTOR)) - PADDING - 1))
@settings(max_examples=100, deadline=None)
def test_a_truncated_file_is_refused(length):
    with pytest.raises(CorruptFile):
        vector_from_gguf(vector_to_gguf(VECTOR)[:length])


@given(st.integers(0, len(vector_to_gguf(VECTOR)) - 1), st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_never_does_worse_than_a_clear_error(place, bit):
    damaged = bytearray(vector_to_gguf(VECTOR))
    damaged[place] ^= 1 << bit
    try:
        vector = vector_from_gguf(bytes(damaged))
    except TrustTraceError:
        return
    assert all(abs(float(np.linalg.norm(direction.unit)) - 1) < 1e-3 for direction in vector.directions)


@pytest.mark.parametrize(
    "forged",
    [
        struct.pack("<4sIQQ", b"GGUF", 3, 1 << 60, 0),
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 1 << 60),
        struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 1 << 60),
        struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 0, 1 << 60),
        struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 9, 1 << 60),
        struct.pack("<4sIQQQ1sIQIQ", b"GGUF", 3, 1, 0, 1, b"t", 1, 1 << 62, 0, 0),
    ],
    ids=["tensors", "values", "key length", "array", "array of arrays", "tensor elements"],
)
def test_a_forged_count_is_refused_at_once(forged):
    with pytest.raises(CorruptFile):
        vector_from_gguf(forged)


def test_another_version_of_the_format_is_refused_with_both_named():
    with pytest.raises(CorruptFile, match=r"version 9.*\(2, 3\)"):
        read_gguf(struct.pack("<4sIQQ", b"GGUF", 9, 0, 0))
