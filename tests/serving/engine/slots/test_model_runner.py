"""Every family of decoder in slots, in float32, against its own plain forward pass."""

import pytest
import torch
from transformers import (
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Olmo2Config,
    Olmo3Config,
    OlmoConfig,
    Qwen2Config,
    Qwen3Config,
)

from registry.errors import Mismatch
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.model_runner import ModelRunner
from tests.serving.engine.small_models import (
    SMALL,
    VOCABULARY,
    naive_answers,
    naive_tokens,
    prompts,
    request,
    small_llama,
    small_model,
)

WINDOW = 6
"""Narrower than the prompts, so that what lies behind a sliding window would show."""
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]

FAMILIES = [
    LlamaConfig(**SMALL),
    GPTNeoXConfig(**SMALL),
    GPT2Config(
        n_embd=32,
        n_layer=3,
        n_head=4,
        vocab_size=VOCABULARY,
        n_positions=128,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    ),
    OlmoConfig(**SMALL),
    Olmo2Config(**SMALL),
    Olmo3Config(**SMALL, sliding_window=WINDOW, layer_types=MIXED),
    Qwen2Config(**SMALL),
    Qwen3Config(**SMALL, head_dim=8),
    GemmaConfig(**SMALL, head_dim=8),
    Gemma2Config(**SMALL, head_dim=8, sliding_window=WINDOW),
    Gemma3TextConfig(
        **SMALL,
        head_dim=8,
        sliding_window=WINDOW,
        layer_types=MIXED,
    ),
    MistralConfig(**SMALL, sliding_window=WINDOW),
]


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: config.model_type)
def test_neighbours_change_no_answer_of_any_family(config):
    model = small_model(config)
    strengths = [(), (3.0, 1.0), (0.0, 0.0, -2.0), (-2.0,), ()]
    asked = [request(prompt, given, max_tokens=8) for prompt, given in zip(prompts(5), strengths, strict=True)]
    with SlotEngine(model, slots=3, prefill_chunk=9) as engine:
        generations = [engine.submit(request) for request in asked]
        together = [generation.result(60).tokens for generation in generations]
    assert together == naive_answers(model, asked, together)
    assert len(set(together)) == len(together)


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=VOCABULARY),
        FalconConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=VOCABULARY, alibi=True),
    ],
    ids=lambda config: config.model_type,
)
def test_a_family_with_special_attention_is_refused(config):
    with pytest.raises(Mismatch, match=f"{config.model_type} models"):
        ModelRunner(small_model(config), 2)


def test_a_model_that_slots_would_change_is_refused(monkeypatch):
    model = small_llama()
    attention = model.network.config._attn_implementation
    wrong = model.network.model.layers[1].self_attn
    plain = wrong.forward
    monkeypatch.setattr(
        wrong,
        "forward",
        lambda *given, **named: (
            plain(*given, **{**named, "scaling": 1.0, "batch": None}) if "batch" in named else plain(*given, **named)
        ),
    )
    with pytest.raises(Mismatch, match="cannot be run in slots"):
        ModelRunner(model, 2)
    assert model.network.config._attn_implementation == attention


def test_bfloat16_runs_and_agrees_with_the_plain_model_at_first():
    model = small_model(LlamaConfig(**SMALL), dtype=torch.bfloat16)
    asked = request(range(10), (2.0, 1.0), max_tokens=3)
    with SlotEngine(model) as engine:
        found = engine.submit(asked).result(60).tokens
    assert found[0] == naive_tokens(model, asked)[0]
