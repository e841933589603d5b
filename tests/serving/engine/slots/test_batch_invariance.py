"""In bfloat16 an answer has the bits that it has alone, whatever runs beside it."""

import pytest
import torch
from transformers import LlamaConfig

from registry.errors import Mismatch
from serving.engine.slots import batch_invariance
from serving.engine.slots.batch_invariance import FEW, MANY, StepRows, require_invariant, require_supported
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kernels import Kernels
from serving.engine.slots.weight_packing import packed
from serving.settings import read_settings
from serving.steering.bank import SteeringBank
from tests.mutants import mutant
from tests.serving.engine.small_models import SMALL, facts, prompts, request, small_model

WIDE = {**SMALL, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}


def by_kernel(states, few=FEW, many=MANY):
    """A product whose rows tell by which kernel they were multiplied: 1, 2, or neither of them for certain, 3."""
    rows = states.shape[-2]
    return states.sum(-1, keepdim=True) + (1 if rows <= few else 2 if rows >= many else 3) / 8


def alone_otherwise(states):
    """As on machines that multiply a row alone by a kernel of its own, which rounds one number of thousands off."""
    result = states.repeat(1, 1, 256)
    if states.shape[-2] == 1:
        result[0, 0, 0] += result[0, 0, 0].abs() > 2.5
    return result


def rows_of(generated, prompts):
    return torch.ones(1, generated + prompts, 1) * 64


def kinds(states, result):
    return [(8 * (row - states[0, 0])).item() for row in result[0]]


@pytest.mark.parametrize(
    ("generated", "read"), [(1, 0), (16, 0), (40, 0), (0, 1), (0, 300), (3, 5), (16, 256), (33, 1)]
)
def test_generated_tokens_and_prompts_each_have_one_kernel(generated, read):
    states = rows_of(generated, read)
    result = StepRows(generated, generated + read).multiply(by_kernel, states)
    assert kinds(states, result) == [1] * generated + [2] * read


@pytest.mark.parametrize("count", [1, 32, 33, 300])
def test_rows_that_are_no_tokens_are_multiplied_as_few(count):
    states = rows_of(0, count)
    for step, is_head in ((StepRows(0, count), True), (StepRows(0, count + 1), False)):
        assert kinds(states, step.multiply(by_kernel, states, is_head=is_head)) == [1] * count


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("few_rows(product, generated)", "many_rows(product, generated)"),
        ("many_rows(product, prompts)", "few_rows(product, prompts)"),
    ],
)
def test_one_kernel_for_all_rows_shows(passage, replacement):
    with mutant(batch_invariance, passage, replacement) as changed:
        states = rows_of(4, 50)
        assert kinds(states, changed.StepRows(4, 54).multiply(by_kernel, states)) != [1] * 4 + [2] * 50


@pytest.mark.parametrize(("few", "many"), [(16, 17), (FEW, 64), (FEW, 128)])
def test_a_machine_that_changes_kernels_elsewhere_is_refused(few, many):
    require_invariant(by_kernel, 4, "these layers")
    require_invariant(lambda states: by_kernel(states, FEW, 128), 4, "the head", is_head=True)
    with pytest.raises(Mismatch, match=r"product of these layers over \d+ rows.*unset TRUSTTRACE_BATCH_INVARIANT"):
        require_invariant(lambda states: by_kernel(states, few, many), 4, "these layers")


@pytest.mark.parametrize("count", [1, 33, 65])
def test_no_generated_token_is_multiplied_alone(count):
    states = torch.full((1, count, 1), 3.0)
    found = StepRows(count, count).multiply(alone_otherwise, states)
    assert torch.equal(found, states.repeat(1, 1, 256))
    with mutant(batch_invariance, "LEAST = 2", "LEAST = 1") as changed:
        assert not torch.equal(changed.StepRows(count, count).multiply(alone_otherwise, states), found)


def test_a_kernel_that_differs_in_few_numbers_is_found():
    require_invariant(alone_otherwise, 1, "these layers")
    with (
        mutant(batch_invariance, "LEAST = 2", "LEAST = 1") as changed,
        pytest.raises(Mismatch, match="of these layers over 1 rows"),
    ):
        changed.require_invariant(alone_otherwise, 1, "these layers")


def test_only_float32_and_bfloat16_on_a_cpu_can_be_invariant():
    require_supported(torch.float32, torch.device("cuda"))
    for dtype, device in ((torch.float16, "cpu"), (torch.bfloat16, "cuda")):
        with pytest.raises(Mismatch, match=rf"{str(dtype)[6:]} on {device}.*TRUSTTRACE_PRECISION=float32"):
            require_supported(dtype, torch.device(device))


@pytest.mark.parametrize("count", [1, 12, 39, 41])
def test_layers_compute_alike_for_prompts_of_any_length(count):
    network = small_model(LlamaConfig(**WIDE), dtype=torch.bfloat16).network
    tokens = torch.arange(count)[None] % 96
    with torch.inference_mode():
        plain = network(tokens).logits
        try:
            with packed(network, step=StepRows(0, count)):
                found = network(tokens).logits
        except Mismatch as error:
            pytest.skip(str(error))
    torch.testing.assert_close(found, plain, rtol=0.05, atol=0.02 * float(plain.abs().max()))


def log_probabilities(engine, asked):
    generations = [engine.submit(wanted) for wanted in asked]
    return [[(event.token, event.logprob) for event in generation.result(120).events] for generation in generations]


def test_neighbours_change_no_bit(monkeypatch):
    model = small_model(LlamaConfig(**WIDE), dtype=torch.bfloat16)
    bank = SteeringBank(facts(d_model=576), ())
    asked = [request(prompt, bank=bank, max_tokens=8, top_logprobs=0) for prompt in prompts(9, longest=70)]
    try:
        engine = SlotEngine(model, slots=9, prefill_chunk=64, kernels=Kernels(four_bit=True, batch_invariant=True))
    except Mismatch as error:
        pytest.skip(str(error))
    with engine:
        alone = [log_probabilities(engine, [wanted])[0] for wanted in asked]
        assert log_probabilities(engine, asked) == alone
        assert log_probabilities(engine, asked[::-1])[::-1] == alone


def test_refused_layers_come_back_as_they_were(monkeypatch):
    network = small_model(LlamaConfig(**SMALL), dtype=torch.bfloat16).network
    before = {name: weight.clone() for name, weight in network.named_parameters()}

    def refuse(*_, **__):
        raise Mismatch("no")

    monkeypatch.setattr("serving.engine.slots.weight_packing.require_invariant", refuse)
    with pytest.raises(Mismatch), packed(network, step=StepRows()):
        pass
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())


def test_the_setting_is_off_unless_it_is_set(monkeypatch):
    assert read_settings().batch_invariant is False
    monkeypatch.setenv("TRUSTTRACE_BATCH_INVARIANT", "true")
    assert read_settings().batch_invariant is True
