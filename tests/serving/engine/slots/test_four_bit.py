"""Weights of quantised files in four bits: near those of the file, few tokens alone, and no other weights at all."""

from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from serving.engine.slots import four_bit
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.four_bit import FEW_ROWS, GROUP, TOLERANCE, FourBitWeights
from serving.engine.slots.kernels import Kernels
from serving.engine.slots.weight_packing import packed
from serving.steering.bank import SteeringBank
from tests.mutants import mutant
from tests.serving.engine.small_models import SMALL, facts, prompts, request, served_vector, small_llama, small_model

SIZES = {**SMALL, "hidden_size": 64, "intermediate_size": 96}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2, with biases": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
}
BANK = SteeringBank(facts(d_model=64), (served_vector("toxicity", 1, d_model=64),))


def random_k_blocks(outputs, inputs):
    """Bytes of Q4_K as a file holds them: two scales, six-bit scales and offsets of groups, and levels."""
    generator = np.random.default_rng(3)
    blocks = generator.integers(0, 256, (outputs * inputs // 256, 144), dtype=np.uint8)
    blocks[:, :4] = generator.uniform(0.001, 0.01, (len(blocks), 2)).astype(np.float16).view(np.uint8)
    return blocks.reshape(outputs, -1)


def from_file(kind, outputs=48, inputs=256, seed=0):
    """A matrix in float32 as it is read from a file of this type."""
    if kind == Type.Q4_K:
        return torch.from_numpy(gguf.quants.dequantize(random_k_blocks(outputs, inputs), kind))
    plain = np.random.default_rng(seed).standard_normal((outputs, inputs)).astype(np.float32) * 0.05
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(plain, kind), kind))


def numbers_of(weights, inputs):
    """What is multiplied by, one input after another."""
    return weights.multiply(torch.eye(inputs).bfloat16(), None).float().T


def largest_of_groups(matrix):
    groups = matrix.unflatten(1, (-1, GROUP))
    return groups.abs().amax(-1, keepdim=True).expand_as(groups).flatten(1)


def small_quantised(family="llama", dtype=torch.bfloat16):
    """A small network whose linear layers are those of a file in Q4_1, its head aside."""
    torch.manual_seed(0)
    network = FAMILIES[family]()
    for module in network.model.layers.modules():
        if isinstance(module, torch.nn.Linear):
            plain = torch.randn(module.weight.shape) * 0.3
            kept = gguf.quants.dequantize(gguf.quants.quantize(plain.numpy(), Type.Q4_1), Type.Q4_1)
            module.weight.data = torch.from_numpy(kept)
            if module.bias is not None:
                torch.nn.init.normal_(module.bias)
    return network.to(dtype).eval().requires_grad_(False)


@pytest.fixture
def model():
    return replace(small_model(LlamaConfig(**SIZES)), network=small_quantised())


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1, Type.Q4_K])
def test_numbers_are_those_of_the_file(kind):
    plain = from_file(kind)
    kept = plain.bfloat16().float()
    weights = FourBitWeights.of(kept.bfloat16())
    assert weights is not None
    found = numbers_of(weights, 256)
    assert (found - kept).abs().div(largest_of_groups(kept)).max() <= TOLERANCE
    assert (found - plain).square().mean().sqrt() < 0.004 * plain.square().mean().sqrt()
    assert weights.nbytes == 48 * 256 * 0.625


@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS])
def test_a_product_is_that_of_its_numbers(rows):
    weights = FourBitWeights.of(from_file(Type.Q4_1).bfloat16())
    states, bias = torch.randn(1, rows, 256).bfloat16(), torch.randn(48).bfloat16()
    wanted = states.float() @ numbers_of(weights, 256).T
    torch.testing.assert_close(weights.multiply(states, None).float(), wanted, rtol=0.01, atol=0.01)
    torch.testing.assert_close(weights.multiply(states, bias).float(), wanted + bias.float(), rtol=0.02, atol=0.02)


def test_a_constant_group_is_on_a_grid():
    matrix = from_file(Type.Q4_1)
    matrix[:, :GROUP], matrix[:, GROUP : 2 * GROUP] = 0.0, 0.125
    found = numbers_of(FourBitWeights.of(matrix.bfloat16()), 256)
    assert not found[:, :GROUP].any()
    assert (found[:, GROUP : 2 * GROUP] == 0.125).all()


def between_two_levels(matrix):
    matrix[17, 40] = matrix[17, 32:64].min() + 3.5 * (matrix[17, 32:64].max() - matrix[17, 32:64].min()) / 15
    return matrix


@pytest.mark.parametrize(
    "matrix",
    [
        torch.randn(48, 256),
        between_two_levels(from_file(Type.Q4_1)),
        from_file(Type.Q8_0),
        from_file(Type.Q4_1)[:40],
        from_file(Type.Q4_1)[:, :48],
        from_file(Type.Q4_1).where(torch.arange(256) != 70, torch.nan),
    ],
    ids=["plain", "one number", "eight bits", "outputs", "inputs", "NaN"],
)
def test_other_weights_are_left_alone(matrix):
    assert FourBitWeights.of(matrix.bfloat16()) is None


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("range(TOP - 1, LEAST_TOP - 1, -1)", "range(TOP - 1, TOP - 1, -1)"),
        ("gaps <= TOLERANCE * torch", "gaps <= torch"),
        ("lowest + MIDDLE * step", "lowest"),
    ],
)
def test_a_grid_that_is_found_otherwise_shows(passage, replacement):
    with mutant(four_bit, passage, replacement) as changed:
        of_k, plain = (
            changed.FourBitWeights.of(matrix.bfloat16()) for matrix in (from_file(Type.Q4_K), torch.randn(48, 256))
        )
        assert of_k is None or plain is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_few_tokens_alone_are_multiplied_in_four_bits(family):
    network = small_quantised(family)
    plain = {count: logits_of(network, count) for count in (1, FEW_ROWS, FEW_ROWS + 1)}
    with packed(network, in_four_bits=True) as products:
        assert [product.four_bit is not None for product in products] == [True] * 12 + [False]
        found = {count: logits_of(network, count) for count in plain}
    assert torch.equal(found[FEW_ROWS + 1], plain[FEW_ROWS + 1])
    for count in (1, FEW_ROWS):
        gap = (found[count] - plain[count]).float().abs().max()
        assert 0 < gap < 0.1 * plain[count].float().abs().max()
    assert torch.equal(logits_of(network, 1), plain[1])


def logits_of(network, count):
    with torch.inference_mode():
        return network(torch.arange(count)[None] + 3).logits


def test_float32_and_other_weights_compute_as_before(model):
    for network in (small_quantised(dtype=torch.float32), small_llama().network.bfloat16()):
        plain = logits_of(network, 1)
        with packed(network, in_four_bits=True):
            assert torch.equal(logits_of(network, 1), plain)
    with packed(model.network) as products:
        assert all(product.four_bit is None for product in products)


def test_strength_zero_is_bit_identical(model):
    with SlotEngine(model, slots=2, kernels=Kernels(four_bit=True)) as engine:
        asked = [request([5, 6, 7], given, BANK, top_logprobs=3) for given in ((), (0.0,), (3.0,))]
        unsteered, zero, steered = (engine.submit(each).result(60).events for each in asked)
    assert unsteered == zero != steered


@pytest.mark.parametrize("wanted", [False, True])
def test_an_engine_tells_what_it_holds_twice(model, wanted):
    inputs_by_outputs = 3 * (64 * 128 + 64 * 64 + 64 * 192 + 96 * 64)
    loaded = sum(parameter.nbytes for parameter in model.network.parameters())
    with SlotEngine(model, slots=2, kernels=Kernels(four_bit=wanted)) as engine:
        assert engine.submit(request(prompts(1)[0], bank=BANK)).result(60).tokens
        assert engine.stats().weights == (loaded, 0.625 * inputs_by_outputs if wanted else 0)
