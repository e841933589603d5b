import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.checkpoints import Checkpoint
from registry.errors import CorruptFile, InvalidInput, NotFound, Unavailable, UnknownName
from serving.model.language_model import load, release
from serving.model.sources import find_series


def test_a_directory_of_checkpoints_is_a_series(series_directory):
    series = find_series(str(series_directory))
    assert series.model == "mini"
    assert [(checkpoint.revision, checkpoint.step) for checkpoint in series] == [
        ("step_000000", 0),
        ("step_000010", 10),
        ("step_000100", 100),
    ]


def test_a_directory_of_one_checkpoint_stands_alone(series_directory):
    series = find_series(str(series_directory / "step_000010"), name="ten")
    assert [(checkpoint.model, checkpoint.step) for checkpoint in series] == [("ten", 0)]
    assert load(series.checkpoints[0]).n_layers == 3


def test_a_trainers_output_ends_with_the_model_above_it(series_directory, tmp_path):
    out = shutil.copytree(series_directory / "step_000100", tmp_path / "out")
    for member, step in (("checkpoint-10", 0), ("checkpoint-20", 10)):
        shutil.copytree(series_directory / f"step_{step:06d}", out / member)
    (out / "trainer_state.json").write_text(json.dumps({"global_step": 25}))
    series = find_series(str(out))
    assert [(checkpoint.revision, checkpoint.step) for checkpoint in series.select("all")] == [
        ("checkpoint-10", 10),
        ("checkpoint-20", 20),
        ("main", 25),
    ]
    digests = [load(checkpoint).weights_digest for checkpoint in series]
    assert digests == [
        load(Checkpoint("x", str(series_directory), name, 0)).weights_digest
        for name in ("step_000000", "step_000010", "step_000100")
    ]
    assert load(series.random_init).n_layers == 3


def test_a_model_beside_a_directory_called_main_is_refused(series_directory, tmp_path):
    out = shutil.copytree(series_directory / "step_000100", tmp_path / "out")
    for member in ("main", "checkpoint-10"):
        shutil.copytree(series_directory / "step_000010", out / member)
    with pytest.raises(InvalidInput, match="directory main"):
        find_series(str(out))


def test_checkpoints_have_their_own_weights_and_digests(series_directory):
    first, last = (load(checkpoint) for checkpoint in find_series(str(series_directory)).select("first,last"))
    assert first.weights_digest != last.weights_digest
    assert first.d_model == last.d_model == 16
    assert not torch.equal(first.network.get_input_embeddings().weight, last.network.get_input_embeddings().weight)


def test_precision_auto_follows_the_hardware(series_directory, monkeypatch):
    checkpoint = find_series(str(series_directory)).checkpoints[0]
    assert load(checkpoint, precision="float32").dtype == torch.float32
    assert load(checkpoint, precision="bfloat16").dtype == torch.bfloat16
    for able in (True, False):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda able=able: {"avx512_bf16": able})
        assert load(checkpoint, device="cpu").dtype == (torch.bfloat16 if able else torch.float32)


def test_a_random_initialisation_is_drawn_by_seed(series_directory):
    init = find_series(str(series_directory)).random_init
    one, same, other = load(init, seed=1), load(init, seed=1), load(init, seed=2)
    weights = [model.network.get_input_embeddings().weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.weights_digest == same.weights_digest != other.weights_digest


def test_loading_leaves_the_random_state_alone(series_directory):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load(find_series(str(series_directory)).random_init)
    assert torch.equal(torch.rand(1), expected)


def test_damaged_or_missing_weights_are_not_used(series_directory, tmp_path):
    copy = tmp_path / "damaged"
    shutil.copytree(series_directory / "step_000010", copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CorruptFile, match="could not be read"):
        load(Checkpoint("x", str(copy), "main", 0))
    tensors = load_file(series_directory / "step_000010" / "model.safetensors")
    dropped = next(name for name in tensors if "mlp" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != dropped}, weights, metadata={"format": "pt"})
    with pytest.raises(CorruptFile, match="lack 1 tensors"):
        load(Checkpoint("x", str(copy), "main", 0))
    weights.unlink()
    with pytest.raises(CorruptFile, match=r"no model\.safetensors"):
        load(Checkpoint("x", str(copy), "main", 0))


def test_a_revision_that_is_not_there_names_those_that_are(series_directory):
    with pytest.raises(NotFound, match="step_000000, step_000010"):
        load(Checkpoint("mini", str(series_directory), "step_7", 7))


def test_wrong_choices_are_met_with_the_right_ones(series_directory, tmp_path):
    checkpoint = find_series(str(series_directory)).checkpoints[0]
    with pytest.raises(InvalidInput, match="float16.*auto, float32, bfloat16"):
        load(checkpoint, precision="float16")
    with pytest.raises(InvalidInput, match="`device` is 'tpu'"):
        load(checkpoint, device="tpu")
    with pytest.raises(UnknownName, match="unknown model 'smollm3'; did you mean 'smollm2'"):
        find_series("smollm3")
    with pytest.raises(UnknownName, match=r"there is no file or directory '\./nowhere'; give a path that exists"):
        find_series("./nowhere")
    with pytest.raises(InvalidInput, match="step_001000"):
        find_series(str(tmp_path))
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"not a \.gguf"):
        find_series(str(tmp_path / "weights.bin"))


def test_a_hub_that_cannot_be_reached_is_said_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable, match="could not be reached.*smollm2"):
        find_series("EleutherAI/pythia-70m")
    with pytest.raises(Unavailable, match="not cached"):
        load(Checkpoint("pythia-70m", "EleutherAI/pythia-70m", "step1000", 1000))


def test_a_hub_that_refuses_the_connection_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match="could not be reached.*smollm2"):
        find_series("EleutherAI/pythia-70m")


def test_a_released_model_holds_no_memory(series_directory):
    model = load(find_series(str(series_directory)).checkpoints[0])
    release(model)
    assert all(parameter.device.type == "meta" for parameter in model.network.parameters())
