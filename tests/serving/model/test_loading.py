"""Loading: whatever cannot be used is refused in one sentence, before anything is measured."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from pipelines.model_io.activations import extract
from registry.checkpoints import Checkpoint
from registry.errors import CorruptFile, InvalidInput, Mismatch, TrustTraceError
from serving.model.language_model import described, load
from serving.model.loading import require_causal
from serving.model.residual_stream import decoder_blocks
from tests.conftest import tiny_llama


def at(directory):
    return Checkpoint("x", str(directory), "main", 0)


@pytest.fixture
def checkpoint(series_directory, tmp_path):
    """A copy of a tiny checkpoint whose configuration is changed."""

    def make(**changes):
        directory = shutil.copytree(series_directory / "step_000010", tmp_path / "m", dirs_exist_ok=True)
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, **changes}))
        return directory

    return make


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_hidden_layers": 2}, CorruptFile, r"hold 9 tensors.*no place for, model\.layers\.2"),
        ({"num_hidden_layers": 4}, CorruptFile, r"lack 9 tensors.*model\.layers\.3"),
        ({"intermediate_size": 64}, CorruptFile, "hold 9 tensors of another shape.*mlp"),
        ({"model_type": "brandnew"}, InvalidInput, "model_type 'brandnew'.*does not know"),
        ({"model_type": None}, InvalidInput, "model_type None"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}, InvalidInput, "code of its own.*never run"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, InvalidInput, r"quantised \(gptq\)"),
        ({"quantization_config": {"load_in_8bit": True}}, InvalidInput, "quantised"),
        ({"quantization_config": "int8"}, InvalidInput, r"quantised \(int8\)"),
        ({"model_type": ["llama"]}, InvalidInput, r"model_type \['llama'\]"),
        ({"num_hidden_layers": "three"}, CorruptFile, "config.json could not be read"),
        ({"text_config": {"hidden_size": 8}}, CorruptFile, "a part for text that is no configuration of a llama"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(checkpoint, changes, error, message):
    directory = checkpoint(**changes)
    with pytest.raises(error, match=message) as caught:
        load(at(directory))
    assert "\n" not in str(caught.value)
    assert "trust_remote_code" not in str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")])
def test_quantised_weights_without_a_word_of_it_are_refused(checkpoint, kind, name):
    """transformers would take them for numbers as they are, without their scales."""
    directory = checkpoint(quantization_config=None)
    load(at(directory))
    tensors = load_file(directory / "model.safetensors")
    small = {key: tensor.to(kind) if "down_proj" in key else tensor for key, tensor in tensors.items()}
    save_file(small, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput, match=rf"quantised \(model\.layers\.0\.mlp\.down_proj\.weight is {name}\)"):
        load(at(directory))


def spoil_tokenizer(directory):
    for path in directory.glob("tokenizer*"):
        path.unlink()


def only_sentencepiece(directory):
    spoil_tokenizer(directory)
    (directory / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>")


def pickled(directory):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(directory / "ran"),)

    (directory / "model.safetensors").unlink()
    torch.save({"x": Evil()}, directory / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_tokenizer, "no tokenizer that can be read"),
        (only_sentencepiece, "no tokenizer that can be read"),
        (pickled, "could not be read"),
        (lambda directory: (directory / "config.json").write_text("{"), "config.json could not be read"),
        (lambda directory: (directory / "config.json").write_text("[]"), "no JSON object"),
        (lambda directory: (directory / "tokenizer.json").write_text("{}"), "no tokenizer that can be read"),
    ],
)
def test_files_that_cannot_be_read_are_refused(checkpoint, spoil, message):
    directory = checkpoint()
    spoil(directory)
    with pytest.raises(TrustTraceError, match=message) as caught:
        load(at(directory))
    assert "\n" not in str(caught.value)
    assert not (directory / "ran").exists()


def test_a_tokenizer_larger_than_the_embedding_is_refused(checkpoint, word_tokenizer):
    directory = checkpoint()
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["beyond"] = 40
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InvalidInput, match=r"goes to id 40 \('beyond'\).*17 rows"):
        load(at(directory))


def test_a_special_token_for_padding_needs_no_row(checkpoint, word_tokenizer):
    directory = checkpoint()
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    pad = {"id": 17, "content": "[PAD]", "special": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"].append({**pad, **flags})
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": "[PAD]"}))
    assert load(at(directory)).tokenizer.pad_token_id == 17


def test_code_and_kernels_beside_the_weights_are_not_run(checkpoint, monkeypatch):
    directory = checkpoint(
        auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}, attn_implementation="evil/kernel"
    )
    (directory / "own.py").write_text(f"import os\nos.mkdir({str(directory / 'ran')!r})\n")
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, "own.Tokens"]}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    assert load(at(directory)).network.config._attn_implementation in ("sdpa", "eager")
    assert not (directory / "ran").exists()


@pytest.mark.parametrize(
    ("kind", "precision"),
    [*((kind, "float32") for kind in ("bert", "roberta", "electra", "xlnet")), ("bert", "bfloat16")],
)
def test_a_model_that_looks_ahead_is_refused(kind, precision, tmp_path, word_tokenizer):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "xlnet":
        sizes = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 32}
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**sizes, vocab_size=40, pad_token_id=0, initializer_range=0.3)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / kind)
    word_tokenizer.save_pretrained(tmp_path / kind)
    for checkpoint in (at(tmp_path / kind), at(tmp_path / kind).random_init()):
        with pytest.raises(InvalidInput, match="looks ahead.*at layer [01] a token"):
            load(checkpoint, precision=precision)


def test_a_slight_look_ahead_is_seen(tmp_path, word_tokenizer):
    torch.manual_seed(0)
    config = CONFIG_MAPPING["bert"](
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=40
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InvalidInput, match="looks ahead"):
        load(at(tmp_path), precision="float32")


def test_an_encoder_decoder_is_refused(tmp_path, word_tokenizer):
    sizes = {"d_model": 32, "d_ff": 32, "d_kv": 8, "num_layers": 2, "num_heads": 2, "vocab_size": 40}
    T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InvalidInput, match=r"encoder-decoder \(t5\)"):
        load(at(tmp_path))


def test_the_text_part_of_a_multimodal_model_is_read(tmp_path, word_tokenizer):
    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = Gemma3Config(
        text_config=Gemma3TextConfig(**text, intermediate_size=32, vocab_size=40, head_dim=8).to_dict(),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    model = load(at(tmp_path), precision="float32")
    assert (model.n_layers, model.d_model) == (2, 32)
    assert extract(model, ["the city", "kind"]).hidden_states.shape == (2, 2, 32)


def test_several_streams_of_hidden_states_are_refused(tmp_path):
    network = tiny_llama().eval()
    blocks = decoder_blocks(network)
    blocks[0].register_forward_hook(lambda _module, _given, output: output[:, :, None].expand(-1, -1, 4, -1))
    blocks[1].register_forward_pre_hook(lambda _module, given: (given[0][:, :, 0], *given[1:]))
    with pytest.raises(Mismatch, match=r"shape \[2, 12, 4, 16\]"):
        require_causal(network, tmp_path)


def test_layers_that_are_not_run_are_refused(tmp_path):
    network = tiny_llama().eval()
    network.config.num_hidden_layers = 3
    network.model.forward = lambda **_: None
    with pytest.raises(Mismatch, match="0 of the 3 layers"):
        require_causal(network, tmp_path)


def test_buffers_that_old_versions_saved_are_no_trouble(checkpoint):
    directory = checkpoint()
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    tensors["model.layers.0.attention.masked_bias"] = torch.ones(1)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    assert load(at(directory)).n_layers == 3


def test_a_context_is_known_under_any_name(tmp_path, word_tokenizer):
    config = CONFIG_MAPPING["mpt"](d_model=32, n_layers=2, n_heads=2, vocab_size=40, max_seq_len=48)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    model = load(at(tmp_path), precision="float32")
    assert model.context_length == 48
    with pytest.raises(InvalidInput, match="48"):
        extract(model, ["kind " * 60])


def test_another_engine_meets_the_same_conditions(checkpoint):
    assert described(at(checkpoint())).n_layers == 3
    with pytest.raises(InvalidInput, match="quantised"):
        described(at(checkpoint(quantization_config={"quant_method": "awq"})))


def test_llama_configurations_are_read_as_they_are_written(checkpoint):
    assert isinstance(load(at(checkpoint(rms_norm_eps=0.5))).network.config, LlamaConfig)
    assert load(at(checkpoint(rms_norm_eps=0.5))).network.config.rms_norm_eps == 0.5


def test_checkpoints_of_equal_files_may_share_a_tokenizer(series_directory, tmp_path):
    shutil.copytree(series_directory, tmp_path / "series")
    first, second = sorted((tmp_path / "series").iterdir())[:2]

    def tokenizer(directory, **how):
        return load(at(directory), **how).tokenizer

    shared = tokenizer(first, share_tokenizer=True)
    assert tokenizer(second, share_tokenizer=True) is shared
    assert tokenizer(second) is not shared  # one that may be changed
    for name, changed in (("tokenizer_config.json", {"model_max_length": 7}), ("config.json", {"rms_norm_eps": 0.5})):
        given = json.loads((second / name).read_text())
        (second / name).write_text(json.dumps({**given, **changed}))
        other = tokenizer(second, share_tokenizer=True)
        assert other is not shared
        shared = other
    assert shared.model_max_length == 7
