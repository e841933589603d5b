"""GGUF files: converted whole, or refused."""

import re
import shutil

import gguf
import numpy as np
import pytest

from registry.checkpoints import Checkpoint
from registry.errors import CorruptFile, InvalidInput
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.conftest import WORDS, tiny_llama

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


def write_gguf(path, *, dropped=()):
    """A tiny Llama as llama.cpp lays it out, without some of its tensors."""
    network = tiny_llama()
    config = network.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|endoftext|>", "<unk>", "t", "h", "th", *WORDS[3:]])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, tensor in network.state_dict().items():
        if name != "lm_head.weight" and name not in dropped:
            for theirs, ours in NAMES.items():
                name = name.replace(theirs, ours)
            writer.add_tensor(name, tensor.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_loaded_with_all_of_its_tensors(tmp_path, cache):
    model = load(find_series(str(write_gguf(tmp_path / "tiny.gguf"))).checkpoints[0], precision="float32")
    np.testing.assert_array_equal(
        model.network.get_input_embeddings().weight.numpy(), tiny_llama().get_input_embeddings().weight.detach().numpy()
    )
    assert model.n_layers == 3


def test_the_fields_of_a_gguf_file_are_parsed_once(tmp_path, cache, monkeypatch):
    parsed = []

    class Reader(gguf.GGUFReader):
        def __init__(self, path):
            parsed.append(path)
            super().__init__(path)

    monkeypatch.setattr(gguf, "GGUFReader", Reader)
    load(find_series(str(write_gguf(tmp_path / "tiny.gguf"))).checkpoints[0])
    assert parsed == [str(tmp_path / "tiny.gguf")]
    assert gguf.GGUFReader is Reader


def test_a_gguf_file_that_lacks_tensors_is_refused(tmp_path, cache):
    path = write_gguf(tmp_path / "half.gguf", dropped=("model.layers.1.mlp.up_proj.weight",))
    for _ in range(2):
        with pytest.raises(CorruptFile, match=r"half\.gguf lack 1 tensors.*layers\.1\.mlp\.up_proj"):
            load(Checkpoint("half", str(path), "main", 0))


def test_one_part_of_a_split_gguf_is_refused(tmp_path, cache):
    directory = tmp_path / "my models"
    directory.mkdir()
    path = write_gguf(directory / "tiny-00002-of-00002.gguf")
    command = f"--merge '{directory}/tiny-00001-of-00002.gguf' '{directory}/tiny.gguf'"
    with pytest.raises(InvalidInput, match=f"one of 2 parts.*{re.escape(command)}"):
        load(find_series(str(path)).checkpoints[0])


def test_a_file_that_is_no_gguf_is_refused(tmp_path, cache):
    whole = write_gguf(tmp_path / "tiny.gguf").read_bytes()
    for content in (b"", b"GGUF", whole[: len(whole) // 2]):
        (tmp_path / "cut.gguf").write_bytes(content)
        with pytest.raises(CorruptFile, match=r"cut\.gguf could not be read as GGUF"):
            load(Checkpoint("cut", str(tmp_path / "cut.gguf"), "main", 0))


def test_no_scratch_is_left_of_a_conversion_that_failed(tmp_path, cache):
    path = write_gguf(tmp_path / "half.gguf", dropped=("model.norm.weight",))
    with pytest.raises(CorruptFile):
        load(Checkpoint("half", str(path), "main", 0))
    assert not list((cache / "models").iterdir())
    shutil.rmtree(cache)
