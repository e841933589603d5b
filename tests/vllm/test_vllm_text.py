"""Echoed prompts, JSON by a schema and calls of functions on vLLM, against the slot engine."""

import json
from dataclasses import replace

import pytest

from serving.engine.base import GenerationRequest, PromptTooLong
from serving.engine.calls import CallFrame, Calls
from serving.engine.grammar import SchemaRefused
from serving.engine.slots.engine import SlotEngine
from serving.steering.bank import SteeringBank
from serving.steering.monitor import Monitor
from tests.serving.engine.small_models import add, facts, prompts, request, served_vector
from tests.serving.model.tokenizers_of_each_kind import byte_level
from tests.vllm.conftest import saved

BANK = SteeringBank(facts(64), (served_vector("privacy", 1, seed=2, d_model=64, probe=0),))
SCHEMA = {
    "type": "object",
    "properties": {"safe": {"type": "boolean"}, "kind": {"enum": ["mail", "phone"]}},
    "required": ["safe", "kind"],
    "additionalProperties": False,
}
ARGUMENTS = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
TURN = 260
"""A token that ends texts beside the tokenizer's own, as ``<|im_end|>`` does."""
CALLS = Calls(tuple(CallFrame(name, f'{{"name": "{name}", "arguments": ', ARGUMENTS, "}") for name in ("call", "ring")))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random Llama that writes bytes, whose two ends of text are declared; it often draws the second."""
    import torch
    from transformers import LlamaConfig

    from tests.serving.engine.small_models import SMALL, small_model

    tokenizer = byte_level()
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 96}
    sized = {"vocab_size": len(tokenizer), "eos_token_id": [tokenizer.eos_token_id, TURN]}
    plain = small_model(LlamaConfig(**{**SMALL, **shape, **sized}))
    head = plain.network.lm_head.weight
    with torch.no_grad():
        head[TURN] = 1.1 * head[139]
    return saved(replace(plain, tokenizer=tokenizer), tmp_path_factory.mktemp("bytes"))


@pytest.fixture(scope="module")
def engine(model):
    from serving.engine.vllm.engine import VllmEngine

    with VllmEngine(model, slots=4, arguments={"enforce_eager": True, "block_size": 32}) as engine:
        yield engine


@pytest.fixture(scope="module")
def slots(model):
    with SlotEngine(model, slots=4) as slots:
        yield slots


def completions(engine, requests):
    return [generation.result(120) for generation in [engine.submit(request) for request in requests]]


@pytest.mark.parametrize("most", [0, 3])
def test_an_echoed_prompt_has_the_slot_engines_numbers(engine, slots, most):
    steered = [(), (2.0,), [add(BANK, 0, 4.0, "all")], [add(BANK, 0, 4.0, "all", below=0.6)]]
    wanted = [
        request(prompt, given, BANK, max_tokens=most, prompt_logprobs=True, top_logprobs=top)
        for prompt, given, top in zip([*prompts(3, 2), [5]], steered, (None, 2, 5, 1), strict=True)
    ]
    for found, expected in zip(completions(engine, wanted * 2), completions(slots, wanted * 2), strict=True):
        assert found.tokens == expected.tokens
        assert found.outcome == replace(expected.outcome, cached_prompt=None)
        assert [event.token for event in found.prompt] == [event.token for event in expected.prompt]
        assert [event.text for event in found.prompt] == [event.text for event in expected.prompt]
        assert found.prompt[0].logprob is None
        for event, other in zip(found.prompt[1:], expected.prompt[1:], strict=True):
            assert event.logprob == pytest.approx(other.logprob, abs=1e-3)
            assert [top.token for top in event.top] == [top.token for top in other.top]
            assert [top.logprob for top in event.top] == pytest.approx([top.logprob for top in other.top], abs=1e-3)


def test_json_follows_its_schema_as_the_slot_engines(engine, slots):
    settings = [(), (3.0,), (add(BANK, 0, 4.0, "all", below=0.6),), ()]
    wanted = [
        request(prompt, given, BANK, max_tokens=60, schema=schema)
        for prompt, given, schema in zip(prompts(4, 6), settings, [SCHEMA, SCHEMA, SCHEMA, None], strict=True)
    ]
    plain = wanted[1]
    wanted[1] = GenerationRequest(plain.prompt_tokens, plain.sampling, plain.plan, Monitor(BANK.vectors))
    found, expected = completions(engine, wanted), completions(slots, wanted)
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    assert [answer.outcome.reason for answer in found] == ["stop", "stop", "stop", expected[3].outcome.reason]
    for answer in found[:3]:
        assert {*json.loads(answer.text)} == {"safe", "kind"}
    assert len(found[1].outcome.readings) == len(found[1].tokens)


def test_a_drawn_answer_follows_its_schema(engine):
    wanted = [request([7, 8], (), BANK, max_tokens=60, temperature=1.5, seed=seed, schema=SCHEMA) for seed in range(12)]
    found = [json.loads(answer.text) for answer in completions(engine, wanted)]
    assert len({json.dumps(answer) for answer in found}) > 1


def test_calls_follow_the_schema_of_their_function(engine, slots):
    wanted = [request(prompt, (), BANK, max_tokens=80, calls=CALLS) for prompt in prompts(3, 1)]
    found, expected = completions(engine, wanted), completions(slots, wanted)
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    for answer in found:
        call = json.loads(answer.text)
        assert call["name"] in ("call", "ring") and call["arguments"]["n"] in (1, 2)


def test_text_with_calls_ends_by_each_end_of_the_model(engine, slots):
    calls = replace(CALLS, trigger='{"name": "')
    wanted = [request(prompt, (), BANK, max_tokens=40, calls=calls) for prompt in prompts(4, 1)]
    found, expected = completions(engine, wanted), completions(slots, wanted)
    assert [answer.tokens for answer in found] == [answer.tokens for answer in expected]
    assert [answer.outcome.reason for answer in found] == [answer.outcome.reason for answer in expected]
    assert TURN in {answer.tokens[-1] for answer in found if answer.outcome.reason == "stop"}


def test_a_schema_that_cannot_be_followed_is_refused(engine):
    with pytest.raises(SchemaRefused, match="the JSON schema cannot be followed"):
        engine.submit(request([1], (), BANK, schema={"type": "object", "uniqueItems": "x", "if": {}, "then": {}}))
    with pytest.raises(PromptTooLong):
        engine.submit(request([1] * 200, (), BANK, schema=SCHEMA))
