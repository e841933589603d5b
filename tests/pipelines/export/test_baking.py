"""Baked checkpoints: loaded by a runtime that cannot steer, they give the logits of our own hook, or are refused."""

import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from pipelines.export import baking
from pipelines.export.baking import bake
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import steering
from tests.conftest import WORDS, tiny_llama
from tests.mutants import mutant

VOCABULARY = len(WORDS) + 2
LLAMA_LIKE = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 32, "vocab_size": VOCABULARY, "max_position_embeddings": 64,
}  # fmt: skip


def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=VOCABULARY, n_positions=64))


def gpt_neox():
    sizes = {name: size for name, size in LLAMA_LIKE.items() if name != "num_key_value_heads"}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes))


def opt():
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "ffn_dim": 32}
    return OPTForCausalLM(OPTConfig(**sizes, vocab_size=VOCABULARY, max_position_embeddings=64, word_embed_proj_dim=16))


def qwen():
    return Qwen2ForCausalLM(Qwen2Config(**LLAMA_LIKE))


def gemma2():
    return Gemma2ForCausalLM(Gemma2Config(**LLAMA_LIKE, head_dim=8))


def language_model(network, tokenizer):
    return LanguageModel(network.eval(), tokenizer, Checkpoint("mini", "/mini", "main", 0), "ab" * 32)


def offsets():
    generator = torch.Generator().manual_seed(1)
    return {layer: torch.randn(16, generator=generator) for layer in (0, 2)}


@pytest.mark.parametrize("build", [tiny_llama, gpt2, gpt_neox, opt])
def test_its_logits_are_those_of_the_steered_model(build, word_tokenizer, tmp_path):
    torch.manual_seed(0)
    model = language_model(build(), word_tokenizer)
    before = {name: values.clone() for name, values in model.network.state_dict().items()}
    bake(model, offsets(), tmp_path / "baked", {"pack": "ab"})
    assert json.loads((tmp_path / "baked" / "baked.json").read_text()) == {
        "model": "mini", "weights_digest": "ab" * 32, "pack": "ab",
    }  # fmt: skip
    bake(model, offsets(), tmp_path / "baked", {})  # a baked checkpoint is made anew
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "baked", trust_remote_code=False).eval()
    tokens = torch.tensor([[0, 3, 5, 7, 2, 9, 4]])
    with torch.inference_mode():
        plain, baked = model.network(tokens).logits, loaded(tokens).logits
        with steering(model.network, offsets()):
            steered = model.network(tokens).logits
    torch.testing.assert_close(baked, steered, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(baked, plain, atol=1e-3)
    assert all(torch.equal(values, before[name]) for name, values in model.network.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["baked"]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (qwen, "Qwen2ForCausalLM cannot carry an offset as a bias .*its feed-forward network has no bias"),
        (gemma2, "Gemma2ForCausalLM cannot carry an offset as a bias"),
    ],
)
def test_an_architecture_without_that_bias_is_refused_by_name(build, reason, word_tokenizer, tmp_path):
    with pytest.raises(InvalidInput, match=f"{reason}.*give baked=false"):
        bake(language_model(build(), word_tokenizer), offsets(), tmp_path / "baked", {})
    assert not list(tmp_path.iterdir())


def test_a_bias_at_another_layer_is_not_kept(word_tokenizer, tmp_path):
    model = language_model(tiny_llama(), word_tokenizer)
    with (
        mutant(baking, "= copied[layer]", "= copied[layer - 1]") as wrong,
        pytest.raises(InvalidInput, match="its logits differ from the steered model's by"),
    ):
        wrong.bake(model, {1: offsets()[2]}, tmp_path / "baked", {})
    assert not list(tmp_path.iterdir())
