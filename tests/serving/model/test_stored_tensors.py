"""Stored tensors: of which types weights are, and what stands in their place."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.errors import CorruptFile, InvalidInput
from serving.model import stored_tensors
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.model.stored_tensors import require_full_precision
from tests.mutants import mutant

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
GONE = "model-00002-of-00002.safetensors"


@pytest.fixture
def directory(series_directory, tmp_path):
    return shutil.copytree(series_directory / "step_000010", tmp_path / "model")


def as_bin(directory, change=lambda tensors: tensors):
    """The checkpoint saved as older libraries do."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(change(tensors), directory / "pytorch_model.bin")


def in_eight_bits(tensors):
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    return {**tensors, name: (tensors[name] * 100).to(torch.int8)}


def test_weights_of_torch_are_read(directory):
    as_bin(directory)
    assert load(find_series(str(directory)).checkpoints[0]).n_layers == 3


def test_eight_bit_weights_of_torch_are_refused(directory):
    as_bin(directory, in_eight_bits)
    with pytest.raises(InvalidInput, match=r"are quantised \(.*q_proj.weight is torch.int8\)"):
        load(find_series(str(directory)).checkpoints[0])


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_sixteen_bits_and_more_are_full_precision(directory, stored):
    as_bin(directory, lambda tensors: {name: tensor.to(stored) for name, tensor in tensors.items()})
    require_full_precision(directory)


def test_eight_bits_that_are_not_read_do_not_matter(directory):
    torch.save(in_eight_bits(load_file(directory / "model.safetensors")), directory / "pytorch_model.bin")
    save_file({"a.weight": torch.zeros(2, dtype=torch.int8)}, directory / "model_of_others.safetensors")
    require_full_precision(directory)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_refused(directory, name):
    (directory / name).write_text(POINTER)
    with pytest.raises(CorruptFile, match=f"{name} is a pointer of Git LFS .*`git -C {directory} lfs pull`"):
        load(find_series(str(directory)).checkpoints[0])


def test_a_pointer_in_place_of_a_gguf_file_is_refused(tmp_path):
    (tmp_path / "model.gguf").write_text(POINTER)
    with pytest.raises(CorruptFile, match="model.gguf is a pointer of Git LFS"):
        load(find_series(str(tmp_path / "model.gguf")).checkpoints[0])


def sharded(directory):
    """The checkpoint in two files; returns their paths."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], GONE: names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, directory / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in parts.items() for name in held}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return [directory / file for file in parts]


def test_shards_are_read(directory):
    sharded(directory)
    assert load(find_series(str(directory)).checkpoints[0]).n_layers == 3


def test_a_shard_that_is_missing_is_named(directory):
    sharded(directory)[1].unlink()
    with pytest.raises(CorruptFile, match=f"lists {GONE}, which is not there"):
        load(find_series(str(directory)).checkpoints[0])


def test_a_shard_that_is_there_twice_leaves_tensors_out(directory):
    first, second = sharded(directory)
    shutil.copy(first, second)
    with pytest.raises(CorruptFile, match="lack [0-9]+ tensors"):
        load(find_series(str(directory)).checkpoints[0])


def test_an_adapter_beside_the_model_is_refused(directory, monkeypatch):
    """transformers adds it to the weights where peft is installed, and the digest of the weights says nothing of it."""
    (directory / "adapter_config.json").write_text("{}")
    with pytest.raises(InvalidInput, match=f"{directory} holds a PEFT adapter .* merge it with merge_and_unload"):
        load(find_series(str(directory)).checkpoints[0])
    with mutant(stored_tensors, "if ADAPTER in names", "if not names") as changed:
        changed.require_no_adapter(directory, ["adapter_config.json"])


def test_adapters_without_a_model_say_what_to_do(tmp_path):
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "adapter_config.json").write_text("{}")
    for directory in (tmp_path, tmp_path / "checkpoint-10"):
        with pytest.raises(InvalidInput, match="holds PEFT adapters and no whole model; merge each"):
            find_series(str(directory))


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("_TORCH_NAMES.get(tensor.dtype, str(tensor.dtype))", '"F32"'),
        ("kind not in FULL_PRECISION", "False"),
    ],
)
def test_a_mutant_takes_eight_bits_for_numbers(directory, passage, replacement):
    as_bin(directory, in_eight_bits)
    with mutant(stored_tensors, passage, replacement) as changed:
        changed.require_full_precision(directory)
