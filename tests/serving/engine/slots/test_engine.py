import asyncio
import pkgutil
import threading
import time

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LlamaConfig

from registry.errors import InvalidInput, Mismatch
from serving.engine.base import EngineStopped, PromptTooLong, QueueFull
from serving.engine.slots.engine import SlotEngine
from serving.model.residual_stream import recording
from serving.steering.bank import SteeringBank
from tests.serving.engine.small_models import (
    SMALL,
    VOCABULARY,
    add,
    facts,
    naive_answers,
    naive_tokens,
    prompts,
    read_events,
    request,
    served_vector,
    small_bank,
    small_llama,
    small_model,
)

MIXTURE = [(), (2.0,), (0.0, -3.0), (1.0, 1.0, 1.0), (), (0.0, 0.0, 6.0), (-4.0, 2.5), (0.5,), (9.0, 9.0), ()]


@pytest.fixture
def model():
    return small_llama()


@pytest.fixture
def engine(model):
    with SlotEngine(model, slots=4, prefill_chunk=16) as engine:
        yield engine


def answers(engine, asked):
    return [generation.result(60).tokens for generation in [engine.submit(wanted) for wanted in asked]]


def test_neighbours_change_no_answer(model, engine):
    """More requests than slots, prompts longer than a chunk, and as many strengths as requests."""
    asked = [request(prompt, strengths) for prompt, strengths in zip(prompts(10), MIXTURE, strict=True)]
    together = answers(engine, asked)
    engine.close()
    expected = naive_answers(model, asked, together)
    assert together == expected
    unsteered = [naive_tokens(model, request(wanted.prompt_tokens)) for wanted in asked]
    assert [steered != other for steered, other in zip(expected, unsteered, strict=True)] == [
        any(strengths) for strengths in MIXTURE
    ]


def test_unsteered_answers_are_those_of_generate(model, engine):
    asked = [request(prompt, max_tokens=20) for prompt in prompts(6, seed=1)]
    together = answers(engine, asked)
    engine.close()
    for wanted, tokens in zip(asked, together, strict=True):
        plain = model.network.generate(torch.tensor([wanted.prompt_tokens]), max_new_tokens=20, do_sample=False)
        assert tokens == tuple(plain[0, len(wanted.prompt_tokens) :].tolist())


@pytest.mark.parametrize("prompt", ["none", "last", "all"])
@pytest.mark.parametrize("generation", ["none", "all"])
def test_each_phase_is_steered_on_its_own(model, prompt, generation):
    given = [add(small_bank(), 0, 5.0, prompt, generation), add(small_bank(), 1, -4.0, "none", "all")]
    asked = request(range(20, 45), given)
    with SlotEngine(model, prefill_chunk=7) as engine:
        completion = engine.submit(asked).result(60)
    assert completion.tokens == naive_tokens(model, asked, completion.tokens)
    assert completion.outcome.steered_prompt == {"none": 0, "last": 1, "all": 25}[prompt]
    assert completion.outcome.steered_generation == 12


def test_requests_keep_the_bank_that_they_began_with(model, engine):
    old, new = small_bank("1"), small_bank("2")
    asked = [request(prompt, (4.0, 2.0), bank) for prompt, bank in zip(prompts(4), (old, new, old, new), strict=True)]
    together = answers(engine, asked)
    engine.close()
    assert together == naive_answers(model, asked, together)


def test_strength_zero_is_bit_identical_beside_steered_neighbours(model):
    """Logits of unsteered rows, with and without hooks on the same batch."""
    from serving.engine.slots.model_runner import ModelRunner
    from serving.engine.slots.slot_sequence import offsets_by_layer, offsets_of
    from serving.engine.slots.token_batch import TokenBatch

    decoder = ModelRunner(model, 3)
    nothing = torch.full((model.d_model,), -0.0)
    steered, zero = (
        offsets_of(request([1], strengths).plan, model.device, model.dtype) for strengths in ((3.0, 3.0), (0.0, -0.0))
    )
    batch = TokenBatch.of([(decoder.cache.reserve(1), 0) for _ in range(3)], [], model.device)
    offsets = offsets_by_layer([(zero, "generation"), (steered, "generation"), (zero, "generation")], nothing)
    mixed = decoder.forward([5, 5, 7], batch, [0, 1, 2], offsets)
    plain = decoder.forward([5, 5, 7], batch, [0, 1, 2], {})
    assert offsets_by_layer([(zero, "generation")], nothing) == {}
    assert torch.equal(mixed[[0, 2]], plain[[0, 2]])
    assert not torch.equal(mixed[1], plain[1])
    decoder.close()


def test_the_same_seed_draws_the_same_tokens_whatever_runs_beside(engine):
    asked = [request(prompt, max_tokens=20, temperature=1.0, top_p=0.9, seed=7) for prompt in prompts(3)]
    alone = [answers(engine, [wanted])[0] for wanted in asked]
    crowd = [request(prompt, (2.0,), temperature=1.3) for prompt in prompts(5, seed=3)]
    assert answers(engine, [*asked, *crowd])[:3] == alone
    unseeded = request(prompts(1)[0], max_tokens=20, temperature=1.0)
    assert len({answers(engine, [unseeded])[0] for _ in range(3)}) == 3


def test_log_probabilities_are_those_of_the_plain_model(model, engine):
    asked = request(range(5), top_logprobs=3)
    completion = engine.submit(asked).result(60)
    engine.close()
    tokens = [*asked.prompt_tokens, *completion.tokens]
    with torch.inference_mode():
        expected = model.network(torch.tensor([tokens])).logits[0, 4:-1].log_softmax(-1)
    for event, row in zip(completion.events, expected, strict=True):
        assert event.logprob == pytest.approx(float(row[event.token]), abs=1e-4)
        assert [likely.token for likely in event.top] == row.topk(3).indices.tolist()
        assert [likely.logprob for likely in event.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)
        assert event.top[0].text == f"w{event.top[0].token}"
    assert engine_without_logprobs(model)[0].logprob is None


def engine_without_logprobs(model):
    with SlotEngine(model) as engine:
        return engine.submit(request([1])).result(60).events


def test_an_answer_ends_at_end_stop_or_room(model):
    first = naive_tokens(model, request(range(5), max_tokens=12))
    model.network.generation_config = GenerationConfig(eos_token_id=[first[5]])
    with SlotEngine(model, window=32) as engine:
        ended = engine.submit(request(range(5))).result(60)
        stop = f"w{first[2]} w{first[3]}"
        stopped = engine.submit(request(range(5), stop=(stop,), ignore_eos=True)).result(60)
        went_on = engine.submit(request(range(5), ignore_eos=True)).result(60)
        full = engine.submit(request(range(30))).result(60)
    assert (ended.tokens, ended.outcome.reason) == (first[:6], "stop")
    assert ended.text == "".join(f" w{token}" for token in first[:5])
    assert (stopped.tokens, stopped.outcome.reason) == (first[:4], "stop")
    assert stopped.text == f" w{first[0]} w{first[1]} "
    assert (went_on.tokens, went_on.outcome.reason) == (first, "length")
    assert (full.outcome.generated_tokens, full.outcome.reason) == (2, "length")


def test_a_cancelled_request_frees_its_slot_and_disturbs_no_other(model):
    asked = [request(prompt, strengths, max_tokens=40) for prompt, strengths in zip(prompts(6), MIXTURE, strict=False)]
    with SlotEngine(model, slots=3, prefill_chunk=8) as engine:
        generations = [engine.submit(wanted) for wanted in asked]
        generations[4].cancel()  # it waits still
        while not generations[0]._events:
            time.sleep(0.001)
        generations[0].cancel()
        completions = [generation.result(60) for generation in generations]
    assert completions[0].outcome.reason == completions[4].outcome.reason == "cancelled"
    assert 1 <= len(completions[0].tokens) < 40
    assert completions[4].outcome.generated_tokens == completions[4].outcome.steered_prompt == 0
    for row in (1, 2, 3, 5):
        assert completions[row].tokens == naive_tokens(model, asked[row], completions[row].tokens)


def test_tokens_stream_into_an_event_loop_while_they_are_drawn(engine):
    async def read(asked):
        generation = engine.submit(asked)
        events = await read_events(generation)
        assert generation.outcome.generated_tokens == len(events)
        return tuple(event.token for event in events), "".join(event.text for event in events)

    async def read_all(asked):
        return await asyncio.gather(*(read(wanted) for wanted in asked))

    asked = [request(prompt, strengths) for prompt, strengths in zip(prompts(6), MIXTURE, strict=False)]
    streamed = asyncio.run(read_all(asked))
    completions = [engine.submit(wanted).result(60) for wanted in asked]
    assert streamed == [(completion.tokens, completion.text) for completion in completions]


def test_a_long_prompt_holds_up_no_answer(model):
    """With chunks of 4, a prompt of 100 tokens takes 25 steps, in each of which the other answer goes on."""
    with SlotEngine(model, prefill_chunk=4) as engine:
        short = engine.submit(request(range(3), max_tokens=60))
        while not short._events:
            time.sleep(0.001)
        long = engine.submit(request([1] * 100, max_tokens=1))
        long.result(60)
        assert len(short._events) >= 20
        short.result(60)


def test_requests_are_admitted_in_order_until_full(model):
    with SlotEngine(model, slots=1, queue_limit=2) as engine:
        ended = []
        generations = []
        for number in range(3):
            generations.append(engine.submit(request([number + 1], max_tokens=60)))
        with pytest.raises(QueueFull, match="2 requests wait already") as raised:
            for _ in range(3):
                engine.submit(request([1]))
        assert raised.value.retry_after >= 1
        threads = [
            threading.Thread(target=lambda of=generation, number=number: (of.result(60), ended.append(number)))
            for number, generation in enumerate(generations)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == [0, 1, 2]
        assert engine.stats().capacity == 1


def test_hidden_states_are_the_plain_models_while_answers_run(model):
    sequences = [list(range(5)), [7], list(range(40, 60))]
    expected = []
    for tokens in sequences:
        states = {}
        with (
            torch.inference_mode(),
            recording(model.network, [0, 2], lambda layer, s, into=states: into.update({layer: s})),
        ):
            model.trunk(input_ids=torch.tensor([tokens]), use_cache=False)
        expected.append({layer: state[0].numpy() for layer, state in states.items()})
    asked = request(range(9), (3.0, 3.0), max_tokens=60)
    with SlotEngine(model) as engine:
        generation = engine.submit(asked)
        found = engine.hidden_states(sequences, [0, 2]).result(60)
        assert generation.result(60).tokens == naive_tokens_after(engine, model, asked)
        with pytest.raises(Mismatch, match="layer 3"):
            engine.hidden_states([[1]], [3])
        with pytest.raises(InvalidInput, match="token 96"):
            engine.hidden_states([[96]], [0])
    for states, other in zip(found, expected, strict=True):
        assert states.keys() == other.keys()
        for layer in states:
            np.testing.assert_array_equal(states[layer], other[layer])


def test_no_block_behind_the_deepest_is_run_for_hidden_states(model):
    run = []
    with SlotEngine(model, prefill_chunk=4) as engine:
        counted = model.network.model.layers[1].register_forward_hook(lambda *_: run.append(1))
        engine.hidden_states([range(9)], [0]).result(60)
        assert not run
        engine.hidden_states([range(9)], [0, 1]).result(60)
        counted.remove()
    assert len(run) == 3


def naive_tokens_after(engine, model, asked):
    engine.close()
    return naive_tokens(model, asked)


def test_what_cannot_be_run_is_refused_at_the_door(engine):
    with pytest.raises(PromptTooLong, match="200 tokens and the window 128"):
        engine.submit(request([1] * 200))
    with pytest.raises(InvalidInput, match=f"token {VOCABULARY} does not exist: the vocabulary has {VOCABULARY}"):
        engine.submit(request([1, VOCABULARY]))
    with pytest.raises(Mismatch, match="bank is for other with d_model 32 .* and the model is small with 32"):
        engine.submit(request([1], bank=SteeringBank(facts(model="other"))))
    with pytest.raises(Mismatch, match="layer 9 does not exist"):
        SteeringBank(facts(), (served_vector(layer=9),))
    with pytest.raises(InvalidInput, match="slots is 0"):
        SlotEngine(engine.model, slots=0)


def test_an_overflowing_model_ends_its_own_request_only(model):
    """Embeddings of one token are infinite: a request that meets it ends, and its slot serves the next one well."""
    with torch.no_grad():
        model.network.get_input_embeddings().weight[95] = torch.inf
    good = request(range(20, 30))
    expected = naive_tokens(model, good)
    with SlotEngine(model, slots=2) as engine:
        bad, beside = engine.submit(request([1, 95, 3])), engine.submit(good)
        with pytest.raises(EngineStopped, match="NaN or infinity"):
            bad.result(60)
        assert bad.outcome.reason == "error"
        assert beside.result(60).tokens == expected
        assert answers(engine, [good, good]) == [expected, expected]


def test_a_failed_step_leaves_the_engine_alive(model, monkeypatch, caplog):
    with SlotEngine(model) as engine:
        expected = answers(engine, [request([1, 2])])
        with monkeypatch.context() as patch:
            patch.setattr(model.network, "forward", lambda **_: 1 / 0)
            with pytest.raises(EngineStopped, match=r"the request failed \(ZeroDivisionError\)"):
                engine.submit(request([1, 2])).result(60)
        assert answers(engine, [request([1, 2])]) == expected


def test_a_request_that_cannot_be_begun_ends_alone(model, engine, monkeypatch, caplog):
    admit, (first, second) = engine._scheduler.admit, [request(prompt) for prompt in prompts(2)]

    def failing(generation, grammar):
        if generation.request is first:
            raise MemoryError
        admit(generation, grammar)

    monkeypatch.setattr(engine._scheduler, "admit", failing)
    generations = [engine.submit(first), engine.submit(second)]
    with pytest.raises(EngineStopped, match="could not be begun .MemoryError.; try again"):
        generations[0].result(60)
    assert len(generations[1].result(60).tokens) == second.sampling.max_tokens
    assert "could not be begun" in caplog.text
    assert engine.problem == ""


def test_an_engine_that_stops_leaves_nobody_waiting(model, engine, monkeypatch, caplog):
    running = engine.submit(request(range(5), max_tokens=400))
    while not engine.stats().active:
        time.sleep(0.01)

    def broken(_):
        raise RuntimeError

    monkeypatch.setattr(engine._scheduler, "has_room", broken)
    waiting = engine.submit(request(range(5)))
    for generation in (running, waiting):
        with pytest.raises(EngineStopped, match=r"has stopped \(RuntimeError\).* started again"):
            generation.result(60)
        assert generation.outcome.reason == "unavailable"
    with pytest.raises(EngineStopped, match="has stopped"):
        engine.submit(request(range(5)))
    assert engine.problem.startswith("the engine has stopped")
    assert "the engine has stopped" in caplog.text


def test_a_reading_that_was_given_up_and_fails_harms_nobody(model, engine, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def failing(*_):
        begun.set()
        assert go_on.wait(30)
        raise ValueError

    with monkeypatch.context() as patch:
        patch.setattr(engine._runner, "read", failing)
        future = engine.hidden_states([[1, 2]], [0])
        assert begun.wait(30)
        assert future.cancel()
        go_on.set()
    assert len(engine.submit(request(range(5))).result(60).tokens) > 0
    assert engine.hidden_states([[1, 2]], [0]).result(60)


def test_readings_wait_in_a_queue_of_the_same_length(model, monkeypatch):
    go_on = threading.Event()
    with SlotEngine(model, slots=1, queue_limit=2) as engine:
        monkeypatch.setattr(engine._runner, "read", lambda *_: go_on.wait(30) and {0: np.zeros((1, 32))})
        readings = [engine.hidden_states([[1]], [0]) for _ in range(3)]
        with pytest.raises(QueueFull):
            engine.hidden_states([[1]], [0])
        go_on.set()
        assert [len(reading.result(30)) for reading in readings] == [1] * 3


def test_draining_ends_what_runs_and_closing_gives_the_network_back(model):
    attention = model.network.config._attn_implementation
    engine = SlotEngine(model, slots=1)
    generations = [engine.submit(request([1], max_tokens=30)) for _ in range(3)]
    assert not engine.drain(0.0)
    with pytest.raises(EngineStopped, match="shutting down"):
        engine.submit(request([1]))
    assert engine.drain(60)
    assert {generation.result(1).outcome.reason for generation in generations} == {"length"}
    engine.close()
    engine.close()
    assert model.network.config._attn_implementation == attention
    assert not any(module._forward_hooks for module in model.network.modules())


def test_closing_cancels_what_has_not_ended(model):
    engine = SlotEngine(model, slots=1)
    generations = [engine.submit(request([1], max_tokens=100)) for _ in range(3)]
    reading = engine.hidden_states([[1]] * 50, [0])
    engine.close()
    assert {generation.result(1).outcome.reason for generation in generations} <= {"cancelled", "length"}
    assert reading.exception(1) is None or isinstance(reading.exception(1), EngineStopped)


def test_the_counts_add_up(engine):
    asked = [request(prompt) for prompt in prompts(6)]
    answers(engine, asked)
    stats = engine.stats()
    assert stats.generated_tokens_total == 6 * 12
    assert stats.prompt_tokens_total == sum(len(wanted.prompt_tokens) for wanted in asked)
    assert 1 < stats.mean_batch <= 4
    assert (stats.active, stats.queued, stats.capacity, stats.queue_limit) == (0, 0, 4, 64)


def test_the_window_never_stretches_positions(model):
    stretched = LlamaConfig(
        **{**SMALL, "max_position_embeddings": 128},
        rope_parameters={
            "rope_type": "dynamic",
            "factor": 2.0,
            "rope_theta": 1e4,
            "original_max_position_embeddings": 64,
        },
    )
    for given, largest, expected in ((model, None, 128), (model, 50, 50), (small_model(stretched), None, 64)):
        with SlotEngine(given, window=largest) as engine:
            assert engine.window == expected


@pytest.mark.parametrize("given", [{"temperature": 1e-46}, {"temperature": 1e-46, "top_p": 0.9}, {"top_p": 1e-300}])
def test_temperatures_and_nuclei_near_zero_are_greedy(engine, given):
    greedy, extreme = request(range(5)), request(range(5), **{"temperature": 1.0, "seed": 1, **given})
    beside = request(range(9), max_tokens=20)
    tokens = answers(engine, [beside, extreme, greedy])
    assert tokens[1] == tokens[2] and len(tokens[0]) == 20


def failing_for(marked, original):
    """``original``, but raising wherever it meets ``marked``."""

    def replacement(*given, **named):
        if any(marked(value) for value in (*given, *named.values())):
            raise RuntimeError("only this request")
        return original(*given, **named)

    return replacement


SLOTS = "serving.engine.slots."


@pytest.mark.parametrize(
    ("target", "marked", "given"),
    [
        (SLOTS + "drawing.draw", lambda value: isinstance(value, list) and 0.25 in value, {"temperature": 0.25}),
        (SLOTS + "drawing.log_probabilities_of_rows", lambda value: value == 17, {"top_logprobs": 17}),
        (
            SLOTS + "scheduler.SlotSequence.accept",
            lambda value: hasattr(value, "sampling") and value.sampling.stop,
            {"stop": "x"},
        ),
    ],
    ids=["draw", "logprobs", "text"],
)
def test_whatever_one_request_raises_ends_it_alone(model, monkeypatch, caplog, target, marked, given):
    monkeypatch.setattr(target, failing_for(marked, pkgutil.resolve_name(target)))
    beside = [request(range(9), temperature=1.0, seed=2, max_tokens=20), request(range(7), max_tokens=20)]
    with SlotEngine(model) as engine:
        expected = answers(engine, beside)
        running = [engine.submit(other) for other in beside]
        failing = engine.submit(request(range(5), **given))
        with pytest.raises(EngineStopped, match=r"the request failed \(RuntimeError\)"):
            failing.result(60)
        assert [generation.result(60).tokens for generation in running] == expected
        assert engine.problem == ""


class BrokenGrammar:
    def allowed(self):
        raise RuntimeError("only this request")


def test_a_grammar_that_fails_ends_its_request_alone(model, monkeypatch, caplog):
    compiled = {True: None, False: BrokenGrammar()}
    compiler = "serving.engine.grammar.GrammarCompiler.compile"
    monkeypatch.setattr(compiler, lambda _, sampling: compiled[sampling.schema is None])
    beside = request(range(7), max_tokens=20)
    with SlotEngine(model) as engine:
        (expected,) = answers(engine, [beside])
        running, failing = engine.submit(beside), engine.submit(request(range(5), schema={"type": "object"}))
        with pytest.raises(EngineStopped, match=r"the request failed \(RuntimeError\)"):
            failing.result(60)
        assert running.result(60).tokens == expected
        assert engine.problem == ""


def test_a_pass_that_fails_for_one_sequence_spares_others(model, monkeypatch, caplog):
    """One token stands for whatever a pass cannot run; answers and prompts are tried one by one."""
    beside = [request(range(9), (2.0,), max_tokens=20), request(range(30), max_tokens=20)]
    with SlotEngine(model, prefill_chunk=8) as engine:
        expected = answers(engine, beside)
        wrong = next(token for token in range(40, VOCABULARY) if token not in {*expected[0], *expected[1]})
        forward = failing_for(lambda value: isinstance(value, list) and wrong in value, engine._runner.forward)
        monkeypatch.setattr(engine._runner, "forward", forward)
        running = [engine.submit(other) for other in beside]
        failing = engine.submit(request([1, wrong, 3]))
        with pytest.raises(EngineStopped, match="the request failed"):
            failing.result(60)
        assert [generation.result(60).tokens for generation in running] == expected


def test_a_special_token_is_a_stop_text(model):
    first = naive_tokens(model, request(range(5)))
    model.tokenizer.add_special_tokens({"additional_special_tokens": [f"w{first[3]}"]})
    with SlotEngine(model) as engine:
        stopped = engine.submit(request(range(5), stop=(f"w{first[3]}",))).result(60)
    assert (stopped.tokens, stopped.outcome.reason) == (first[:4], "stop")
    assert stopped.text == "".join(f" w{token}" for token in first[:3])


def test_the_ends_of_model_and_tokenizer_both_end_a_text(model):
    first = naive_tokens(model, request(range(5)))
    model.network.generation_config = GenerationConfig(eos_token_id=0)
    model.tokenizer.eos_token = f"w{first[4]}"
    with SlotEngine(model) as engine:
        ended = engine.submit(request(range(5))).result(60)
    assert (ended.tokens, ended.outcome.reason) == (first[:5], "stop")


def test_memory_follows_the_tokens_held_and_is_given_back(monkeypatch):
    model = small_model(LlamaConfig(**{**SMALL, "max_position_embeddings": 4096}))
    with SlotEngine(model, slots=8) as engine:
        cache, held = engine._runner.cache, []
        reserve = cache.reserve
        monkeypatch.setattr(cache, "reserve", lambda length: (reserve(length), held.append(cache.positions))[0])
        short = [engine.submit(request([1, 2], max_tokens=200)) for _ in range(3)]
        long = engine.submit(request([1] * 3000, max_tokens=1))
        long.result(120)
        assert 3000 <= max(held) <= 4096 + 8 * 256
        for generation in short:
            generation.result(60)
        engine.drain(60)
        assert cache.positions <= 8 * 256


def test_a_scored_prompt_that_fills_the_window_needs_no_more(model, monkeypatch):
    asked = {"prompt_logprobs": True, "top_logprobs": 0}
    with SlotEngine(model, window=64) as engine:
        cache, lengths = engine._runner.cache, []
        reserve = cache.reserve
        monkeypatch.setattr(cache, "reserve", lambda length: (lengths.append(length), reserve(length))[1])
        scored = engine.submit(request(range(64), max_tokens=0, **asked)).result(60)
        with pytest.raises(PromptTooLong):
            engine.submit(request(range(64), max_tokens=1, **asked))
    assert (len(scored.prompt), scored.tokens, lengths) == (64, (), [64])


def test_slots_that_grow_and_move_keep_their_answers():
    model = small_model(LlamaConfig(**{**SMALL, "max_position_embeddings": 1024}))
    asked = [
        request([number + 1] * length, max_tokens=count)
        for number, (length, count) in enumerate([(250, 12), (3, 300), (255, 3), (300, 40), (2, 5)])
    ]
    with SlotEngine(model, slots=4, prefill_chunk=64) as engine:
        together = answers(engine, asked)
        alone = [answers(engine, [wanted])[0] for wanted in asked]
    assert together == alone
    assert together[0] == naive_tokens(model, asked[0])


def test_long_readings_let_answers_go_on_and_can_be_cancelled(model, monkeypatch):
    with SlotEngine(model, prefill_chunk=4) as engine:
        whole = engine.hidden_states([list(range(90))], [1]).result(60)[0][1]
        answer = engine.submit(request(range(3), max_tokens=100))
        reading = engine.hidden_states([list(range(90))] * 50, [1])
        while len(answer._events) < 5:
            time.sleep(0.001)
        reads, read = [], engine._runner.read
        monkeypatch.setattr(engine._runner, "read", lambda *given: reads.append(1) or read(*given))
        reading.cancel()
        answer.result(60)
        assert len(reads) <= 2
        assert engine.stats().active == 0
    states = {}
    with torch.inference_mode(), recording(model.network, [1], lambda layer, s: states.update({layer: s})):
        model.trunk(input_ids=torch.tensor([list(range(90))]), use_cache=False)
    np.testing.assert_allclose(whole, states[1][0].numpy(), atol=1e-4)
