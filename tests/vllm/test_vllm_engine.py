"""The engine over vLLM against the slot engine and the plainest loop, in float32 on vLLM's build for CPUs."""

import asyncio
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from transformers import GenerationConfig

from registry.errors import InvalidInput, Mismatch
from serving.engine.base import EngineStopped, PromptTooLong, QueueFull
from serving.engine.slots.engine import SlotEngine
from serving.model.norms import residual_norms
from serving.steering.bank import SteeringBank
from serving.steering.monitor import Monitor
from tests.serving.engine.small_models import (
    add,
    facts,
    naive_tokens,
    project,
    prompts,
    read_events,
    request,
    served_vector,
)

MIXTURE = [(), (2.0,), (0.0, -3.0), (1.0, 1.0, 1.0), (), (0.0, 0.0, 6.0), (-4.0, 2.5), (3.5,), (9.0, 9.0), ()]


def bank(version="1"):
    """Three vectors at two layers."""
    rows = enumerate((("toxicity", 0), ("privacy", 1), ("fairness", 1)))
    seed = 10 * int(version)
    vectors = tuple(served_vector(name, layer, version, seed=seed + row, d_model=64) for row, (name, layer) in rows)
    return SteeringBank(facts(64), vectors, {vector.dimension: vector.reference for vector in vectors})


def asked(prompt, strengths=(), version="1", **sampling):
    return request(prompt, strengths, bank(version), **sampling)


def completions(engine, requests):
    return [generation.result(120) for generation in [engine.submit(request) for request in requests]]


def tokens(engine, requests):
    return [completion.tokens for completion in completions(engine, requests)]


def test_a_mixed_batch_equals_the_slot_engines(model, engine):
    requests = [asked(prompt, strengths) for prompt, strengths in zip(prompts(10), MIXTURE, strict=True)]
    found = completions(engine, requests)
    with SlotEngine(model, slots=4) as slots:
        expected = completions(slots, requests)
    assert [completion.tokens for completion in found] == [completion.tokens for completion in expected]
    assert [completion.tokens for completion in found] == [naive_tokens(model, request) for request in requests]
    assert [completion.text for completion in found] == [completion.text for completion in expected]
    # How much of a prompt was cached is told by the slot engine alone.
    told = [replace(completion.outcome, cached_prompt=None) for completion in expected]
    assert [completion.outcome for completion in found] == told
    plain = tokens(engine, [asked(request.prompt_tokens) for request in requests])
    differ = [completion.tokens != other for completion, other in zip(found, plain, strict=True)]
    assert differ == [any(strengths) for strengths in MIXTURE]


@pytest.mark.parametrize("prompt", ["none", "last", "all"])
@pytest.mark.parametrize("generation", ["none", "all"])
def test_each_phase_is_steered_on_its_own(model, engine, prompt, generation):
    given = [add(bank(), 0, 5.0, prompt, generation), add(bank(), 1, -4.0, "none", "all")]
    request = asked(range(20, 45), given)
    completion = engine.submit(request).result(60)
    assert completion.tokens == naive_tokens(model, request)
    assert completion.outcome.steered_prompt == {"none": 0, "last": 1, "all": 25}[prompt]


def test_a_vector_of_several_layers_steers_each(model, engine):
    several = served_vector("toxicity", (0, 1, 2), version="8", seed=5, d_model=64)
    steered = SteeringBank(facts(64), (several,), {"toxicity": several.reference})
    requests = [
        request(prompt, (strength,), steered) for prompt, strength in zip(prompts(4), (4, -3, 6, 0), strict=True)
    ]
    found = tokens(engine, requests)
    assert found == [naive_tokens(model, request) for request in requests]
    lowest = served_vector("toxicity", 0, version="9", seed=5, d_model=64)
    one = SteeringBank(facts(64), (lowest,), {"toxicity": lowest.reference})
    assert found != tokens(engine, [request(each.prompt_tokens, (4,), one) for each in requests])


LONG = [number % 90 for number in range(3, 99)]
"""Three blocks of vLLM's cache."""


def test_steered_prompts_leave_unsteered_answers_alone(engine):
    """With the cache on: once it holds the prompt as it was unsteered, and once it has held it steered alone."""
    for prompt in (LONG, LONG[::-1]):
        plain, steered = (asked(prompt, given, top_logprobs=5) for given in ((), [add(bank(), 0, 6.0, "all")]))
        if prompt == LONG:
            before = completions(engine, [plain])[0]
            between = completions(engine, [steered])[0]
        else:
            between = completions(engine, [steered])[0]
            before = completions(engine, [plain])[0]
        after = completions(engine, [plain])[0]
        assert before.tokens != between.tokens
        assert (after.text, after.events) == (before.text, before.events)


def test_without_the_salt_they_would_not_be(model, engine, monkeypatch):
    """The trap itself: what the salt is for, shown by taking it away."""
    prompt = [(7 * number) % 90 for number in range(96)]
    plain, steered = asked(prompt), asked(prompt, [add(bank(), 0, 6.0, "all")])
    generate = engine.process.generate
    with monkeypatch.context() as patch:
        patch.setattr(engine.process, "generate", lambda given, how, **_: generate(given, how, ""))
        tokens(engine, [steered])
        poisoned = tokens(engine, [plain])[0]
    assert poisoned != naive_tokens(model, plain)
    other = asked(prompt[1:])
    tokens(engine, [asked(prompt[1:], [add(bank(), 0, 6.0, "all")])])
    assert tokens(engine, [other])[0] == naive_tokens(model, other)


def test_each_client_has_a_cache_of_its_own(engine, monkeypatch):
    salts, generate = [], engine.process.generate
    monkeypatch.setattr(
        engine.process,
        "generate",
        lambda *given, salt, **more: salts.append(salt) or generate(*given, salt=salt, **more),
    )
    tokens(engine, [replace(asked(LONG, max_tokens=1), client=client) for client in ("", "a", "a", "b")])
    assert (len(set(salts)), salts[0], salts[1]) == (3, "", salts[2])


@pytest.mark.parametrize("strengths", [(8.0, 6.0), [add(bank(), 0, 6.0, "all", "all")]])
def test_a_second_turn_is_steered_despite_the_cache(model, engine, strengths):
    """What was an answer in the first turn is prompt in the second, and steered as prompt."""
    first = asked([(11 * number) % 90 for number in range(40)], strengths, max_tokens=60)
    answer = tokens(engine, [first])[0]
    assert answer == naive_tokens(model, first)
    second = asked([*first.prompt_tokens, *answer, 5, 6, 7], strengths, max_tokens=20)
    assert tokens(engine, [second])[0] == naive_tokens(model, second)


def test_requests_keep_their_bank_under_load(model, engine):
    """Four banks of three vectors take turns on four rows: requests of different banks run together, or wait."""
    requests = [
        asked(prompt, (4.0, 2.0, -1.0)[: 1 + number % 3], str(1 + number % 4))
        for number, prompt in enumerate(prompts(24, seed=5))
    ]
    assert tokens(engine, requests) == [naive_tokens(model, request) for request in requests]


def test_the_same_seed_draws_the_same_tokens_whatever_runs_beside(engine):
    seeded = [asked(prompt, max_tokens=20, temperature=1.0, top_p=0.9, seed=7) for prompt in prompts(3)]
    alone = [tokens(engine, [request])[0] for request in seeded]
    crowd = [asked(prompt, (2.0,), temperature=1.3) for prompt in prompts(5, seed=3)]
    assert tokens(engine, [*seeded, *crowd])[:3] == alone
    unseeded = asked(prompts(1)[0], max_tokens=20, temperature=1.0)
    assert len({tokens(engine, [unseeded])[0] for _ in range(3)}) == 3


def test_log_probabilities_are_the_slot_engines(model, engine):
    requests = [asked(range(5), strengths, top_logprobs=3) for strengths in ((), (3.0, 1.0))]
    requests.append(asked(range(5), top_logprobs=0, temperature=1.0, seed=3))
    found = completions(engine, requests)
    with SlotEngine(model) as slots:
        expected = completions(slots, requests[:2])
    for completion, other in zip(found, expected, strict=False):
        for event, same in zip(completion.events, other.events, strict=True):
            assert event.logprob == pytest.approx(same.logprob, abs=1e-3)
            assert [top.token for top in event.top] == [top.token for top in same.top]
            assert [top.text for top in event.top] == [top.text for top in same.top]
            assert [top.logprob for top in event.top] == pytest.approx([top.logprob for top in same.top], abs=1e-3)
    assert all(event.logprob is not None and not event.top for event in found[2].events)
    with pytest.raises(EngineStopped, match="InvalidInput|top_logprobs"):
        completions(engine, [asked([1], top_logprobs=21)])


def test_an_answer_ends_at_stop_end_or_room(model, engine, monkeypatch):
    first = naive_tokens(model, asked(range(5)))
    stop = f"w{first[2]} w{first[3]}"
    stopped = completions(engine, [asked(range(5), stop=(stop,))])[0]
    assert (stopped.tokens, stopped.outcome.reason) == (first[:4], "stop")
    assert stopped.text == f" w{first[0]} w{first[1]} "
    monkeypatch.setattr(engine, "_ends", frozenset([first[5]]))
    ended, went_on = completions(engine, [asked(range(5)), asked(range(5), ignore_eos=True)])
    assert (ended.tokens, ended.outcome.reason) == (first[:6], "stop")
    assert ended.text == "".join(f" w{token}" for token in first[:5])
    assert (went_on.tokens, went_on.outcome.reason) == (first, "length")
    full = completions(engine, [asked([1] * (engine.window - 2), ignore_eos=True)])[0]
    assert (full.outcome.generated_tokens, full.outcome.reason) == (2, "length")


def test_a_cancelled_request_ends_and_disturbs_no_other(model, engine):
    requests = [asked(prompt, strengths, max_tokens=60) for prompt, strengths in zip(prompts(6), MIXTURE, strict=False)]
    generations = [engine.submit(request) for request in requests]
    generations[5].cancel()  # it waits still
    while not generations[0]._events:
        time.sleep(0.001)
    generations[0].cancel()
    found = [generation.result(60) for generation in generations]
    assert found[0].outcome.reason == found[5].outcome.reason == "cancelled"
    assert 1 <= len(found[0].tokens) < 60
    assert found[5].outcome.generated_tokens == found[5].outcome.steered_prompt == 0
    for row in range(1, 5):
        assert found[row].tokens == naive_tokens(model, requests[row])
    assert engine.stats().active == engine.stats().queued == 0


def test_rows_return_from_requests_that_end_early(model, engine, monkeypatch):
    request, told, release = asked(range(30), (4.0, 2.0), version="7"), threading.Event(), asyncio.Event()
    put = engine.process.put

    async def slow(rows):
        told.set()
        await release.wait()
        await put(rows)

    with monkeypatch.context() as patch:
        patch.setattr(engine.process, "put", slow)
        generation = engine.submit(request)
        assert told.wait(30)
        generation.cancel()
        assert generation.result(30).outcome.reason == "cancelled"
    assert not engine._rows._users.any()
    engine._loop.call_soon_threadsafe(release.set)
    assert tokens(engine, [request])[0] == naive_tokens(model, request)


def test_directions_that_could_not_be_told_are_told_again(model, engine, monkeypatch):
    request = asked(range(30), (4.0, 2.0), version="8")

    async def failing(_):
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(engine.process, "put", failing)
        with pytest.raises(EngineStopped, match="ConnectionError"):
            completions(engine, [request])
    assert not engine._rows._users.any()
    assert tokens(engine, [request])[0] == naive_tokens(model, request)


def test_tokens_stream_into_an_event_loop_while_they_are_drawn(engine):
    async def read(request):
        generation = engine.submit(request)
        events = await read_events(generation)
        return tuple(event.token for event in events), "".join(event.text for event in events)

    async def read_all(requests):
        return await asyncio.gather(*(read(request) for request in requests))

    requests = [asked(prompt, strengths) for prompt, strengths in zip(prompts(6), MIXTURE, strict=False)]
    streamed = asyncio.run(read_all(requests))
    assert streamed == [(completion.tokens, completion.text) for completion in completions(engine, requests)]


def test_hidden_states_are_the_plain_models_while_steered_answers_run(model, engine):
    sequences = [list(range(5)), [7], LONG]
    with SlotEngine(model) as slots:
        expected = slots.hidden_states(sequences, [0, 2]).result(60)
    generations = [engine.submit(asked(LONG, (6.0, 6.0), max_tokens=25)) for _ in range(3)]
    found = engine.hidden_states(sequences, [0, 2]).result(60)
    for generation in generations:
        generation.result(60)
    for states, other in zip(found, expected, strict=True):
        assert states.keys() == other.keys()
        for layer in states:
            np.testing.assert_allclose(states[layer], other[layer], atol=1e-4 * np.abs(other[layer]).max())
    with pytest.raises(Mismatch, match="layer 3"):
        engine.hidden_states([[1]], [3])


def test_norms_are_those_that_the_weights_give(model, engine):
    from serving.engine.vllm.engine import norms_read
    from serving.model.language_model import described

    without_weights = described(model.checkpoint, precision="float32")
    assert without_weights.network.get_input_embeddings().weight.device.type == "meta"
    assert (without_weights.d_model, without_weights.n_layers) == (model.d_model, model.n_layers)
    found = norms_read(without_weights, engine)
    assert found == pytest.approx(residual_norms(model), rel=1e-4)


def test_what_cannot_be_run_is_refused_at_the_door(model, engine):
    with pytest.raises(PromptTooLong, match="200 tokens and the window 128"):
        engine.submit(asked([1] * 200))
    with pytest.raises(InvalidInput, match="token 96 does not exist"):
        engine.submit(asked([1, 96]))
    with pytest.raises(Mismatch, match="d_model 32 and 3 layers, and the model is small with 64"):
        engine.submit(request([1], bank=SteeringBank(facts())))
    many = tuple(served_vector(f"d{number}", seed=number, d_model=64) for number in range(5))
    with pytest.raises(
        InvalidInput, match="steers by 5 directions, one a layer of each vector, and the engine has rows for 4"
    ):
        engine.submit(request([1], (1.0,) * 5, SteeringBank(facts(64), many)))


def test_a_full_queue_says_when_to_return(engine):
    generations = []
    with pytest.raises(QueueFull, match="64 requests wait already"):
        for _ in range(100):
            generations.append(engine.submit(asked(range(9), max_tokens=60)))
    assert len(generations) >= 68
    threads = [threading.Thread(target=generation.cancel) for generation in generations]
    for thread in threads:
        thread.start()
    for generation in generations:
        assert generation.result(60).outcome.reason in ("cancelled", "length")


def test_workers_hooked_every_layer(engine):
    (facts,) = engine._on_loop(engine.process.facts()).result()
    assert facts["layers"] == [0, 1, 2]
    assert "cpu" in facts["runner"]


def require_as_the_slot_engine(model, engine, **sampling):
    """A projection, a condition and a monitor on an engine of its own, beside a plain request."""
    own = SteeringBank(facts(64), (served_vector("privacy", 1, "20", seed=2, d_model=64, probe=0),))
    settings = [(), (project(own, 0, 2.0, -50, 50, "at_least"),), (add(own, 0, 5.0, "all", below=0.6),), (3.0,)]
    wanted = [request(prompt, given, own, **sampling) for prompt, given in zip(prompts(4, 7), settings, strict=True)]
    wanted[3] = replace(wanted[3], monitor=Monitor(own.vectors))
    found = completions(engine, wanted)
    with SlotEngine(model, slots=4) as slots:
        expected = completions(slots, wanted)
    for completion, other in zip(found, expected, strict=True):
        assert (completion.tokens, completion.outcome.moved) == (other.tokens, other.outcome.moved)
    readings = [[event.readings[0] for event in answer.events] for answer in (found[3], expected[3])]
    assert readings[0] == pytest.approx(readings[1], abs=1e-4)


def test_compiled_draining_and_closing(model, tmp_path, monkeypatch):
    """An engine of its own: torch.compile on, a model whose end of text is declared, then drained and closed."""
    from serving.engine.vllm.engine import VllmEngine

    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    first = naive_tokens(model, asked(range(5)))
    monkeypatch.setattr(model.network, "generation_config", GenerationConfig(eos_token_id=[first[5]]))
    engine = VllmEngine(model, slots=4)
    (facts,) = engine._on_loop(engine.process.facts()).result()
    assert facts["compiled"] != "NONE"
    requests = [
        asked(prompt, strengths, ignore_eos=True) for prompt, strengths in zip(prompts(10), MIXTURE, strict=True)
    ]
    assert tokens(engine, requests) == [naive_tokens(model, request) for request in requests]
    assert completions(engine, [asked(range(5))])[0].outcome.reason == "stop"
    require_as_the_slot_engine(model, engine, ignore_eos=True)
    stats = engine.stats()
    assert stats.generated_tokens_total == 14 * 12 + 6
    assert 1 < stats.mean_batch <= 4
    running = [engine.submit(asked(range(9), (1.0,), max_tokens=40, ignore_eos=True)) for _ in range(6)]
    assert not engine.drain(0.0)
    with pytest.raises(EngineStopped, match="shutting down"):
        engine.submit(asked([1]))
    assert engine.drain(60)
    assert {generation.result(1).outcome.reason for generation in running} == {"length"}
    engine.close()
    engine.close()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers want a core each")
def test_tensor_parallel_workers_steer_alike(model, monkeypatch):
    from serving.engine.vllm.engine import VllmEngine

    first, second = sorted(os.sched_getaffinity(0))[:2]
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{first}|{second}")
    requests = [asked(prompt, strengths) for prompt, strengths in zip(prompts(10), MIXTURE, strict=True)]
    with VllmEngine(model, slots=4, arguments={"tensor_parallel_size": 2, "enforce_eager": True}) as engine:
        facts = engine._on_loop(engine.process.facts()).result()
        assert [fact["layers"] for fact in facts] == [[0, 1, 2]] * 2
        assert tokens(engine, requests) == [naive_tokens(model, request) for request in requests]
        require_as_the_slot_engine(model, engine)
