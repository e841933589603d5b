"""Blocks of Llama's kind, fused: the bits of the blocks as they come but for norms, in slots alone, and no others."""

from contextlib import nullcontext

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from serving.engine.slots import fused_blocks, model_runner
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.fused_blocks import fused, normalised_by
from serving.engine.slots.model_runner import ModelRunner
from serving.engine.slots.token_batch import Span, TokenBatch
from serving.engine.slots.weight_packing import packed
from tests.mutants import mutant
from tests.serving.engine.small_models import SMALL, prompts, request, small_bank, small_model

CPU = torch.device("cpu")
PROMPT = prompts(1, longest=30)[0]
FAMILIES = [
    LlamaConfig(**SMALL),
    LlamaConfig(**SMALL, head_dim=16),
    MistralConfig(**SMALL, sliding_window=6),
    Qwen2Config(**SMALL),
    Qwen2Config(**SMALL, sliding_window=6, use_sliding_window=True, max_window_layers=1),
]

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


def stepwise_logits(config, fuse):
    """Of a prompt in two pieces and of two tokens after it, beside another sequence."""
    model = small_model(config, dtype=torch.bfloat16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_runner, "fused", fuse)
        runner = ModelRunner(model, 2)
    slot, other = runner.cache.reserve(40), runner.cache.reserve(40)
    spans = Span(slot, 0, 5), Span(slot, 5, len(PROMPT) - 5)
    logits = [
        runner.forward(PROMPT[span.start : span.end], TokenBatch.of([], [span], CPU), range(span.count), {})
        for span in spans
    ]
    for position in (len(PROMPT), len(PROMPT) + 1):
        batch = TokenBatch.of([(slot, position), (other, position - len(PROMPT))], [], CPU)
        logits.append(runner.forward([3, 4], batch, [0, 1], {}))
    n_fused = sum("forward" in vars(block) for block in model.network.model.layers)
    runner.close()
    assert not any("forward" in vars(block) for block in model.network.model.layers)
    return torch.cat(logits), n_fused


def unfused(*_):
    return nullcontext()


@pytest.fixture
def norms_of_modules(monkeypatch):
    """Blocks that normalise as their modules do."""
    monkeypatch.setattr(fused_blocks, "normalised_by", lambda norm: norm.forward)


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: config.model_type)
def test_but_for_norms_fused_blocks_have_the_same_bits(config, norms_of_modules):
    plain, none = stepwise_logits(config, unfused)
    found, n_fused = stepwise_logits(config, fused)
    assert (none, n_fused) == (0, 3)
    assert torch.equal(found, plain)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_a_norm_in_one_kernel_is_the_nearer_one(scale):
    torch.manual_seed(0)
    norm = LlamaRMSNorm(192, eps=1e-5)
    norm.weight.data = torch.randn(192)
    norm = norm.bfloat16()
    states = (scale * torch.randn(1, 500, 192) + scale).bfloat16()
    exact = states.double() * norm.weight.double() / (states.double().square().mean(-1, keepdim=True) + 1e-5).sqrt()
    ours, theirs = ((found.double() - exact).abs().mean() for found in (normalised_by(norm)(states), norm(states)))
    assert ours < 0.8 * theirs
    one_by_one = [normalised_by(norm)(states[:, row : row + 1]) for row in range(500)]
    assert torch.equal(torch.cat(one_by_one, dim=1), normalised_by(norm)(states))


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("[-sines[0, :, None, :half], sines", "[sines[0, :, None, :half], sines"),
        ("if cosines is not self._of:", "if self._of is None:"),
        ("window=window", "window=None"),
        ("lambda attention: attention.config.sliding_window", "lambda attention: 3"),
        ("store(turned[:, n_queries:]", "store(heads[:, n_queries:n_turned]"),
        ("torch.cat([states, -states], dim=-1)", "torch.cat([states, states], dim=-1)"),
    ],
)
def test_blocks_that_compute_otherwise_show(passage, replacement):
    config = MistralConfig(**SMALL, sliding_window=6)
    plain, _ = stepwise_logits(config, fused)
    with mutant(fused_blocks, passage, replacement) as changed:
        try:
            found, _ = stepwise_logits(config, changed.fused)
        except Exception:  # so far off that the runner refuses it
            return
    assert not torch.equal(found, plain)


def test_blocks_of_another_kind_are_left_alone():
    assert stepwise_logits(Qwen3Config(**SMALL, head_dim=8), fused)[1] == 0  # it normalises queries and keys
    model = small_model(LlamaConfig(**SMALL))
    with packed(model.network) as products, fused(model.network, products) as n_fused:
        assert n_fused == 0  # nothing is packed in float32


def test_steering_and_reading_reach_fused_blocks():
    model = small_model(LlamaConfig(**SMALL), dtype=torch.bfloat16)
    tokens = list(range(10))
    with SlotEngine(model, slots=2) as engine:
        ask = lambda strengths: engine.submit(request(tokens, strengths, small_bank(), top_logprobs=1))  # noqa: E731
        unsteered, zero, steered = (ask(given).result(60).events for given in ((), (0.0, 0.0), (4.0, 4.0)))
        read = engine.hidden_states([tokens], [1]).result(60)[0][1]
    assert unsteered == zero != steered
    states = model.network(torch.tensor([tokens]), output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(torch.from_numpy(read), states[0].float(), rtol=0.05, atol=0.05)
