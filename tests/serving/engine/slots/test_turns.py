"""Turns of clients: one that asks for much keeps nobody waiting, and loses nothing of its own."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from serving.engine.base import EngineStopped, QueueFull
from serving.engine.slots import engine as slot_engine
from serving.engine.slots import turns
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.steps import run_step
from serving.engine.slots.turns import Turn
from tests.mutants import mutant
from tests.serving.engine.small_models import naive_answers, prompts, request, small_llama


@pytest.fixture
def model():
    return small_llama()


def of(client, *arguments, **sampling):
    return replace(request(*arguments, **sampling), client=client)


def submit_a_hoard(engine, asked):
    """Submits them all, and waits until every slot has been given to them and each answer has begun."""
    generations = [engine.submit(wanted) for wanted in asked]
    slots = engine.stats().capacity
    while not all(generation._events for generation in generations[:slots]):
        time.sleep(0.001)
    return generations


def test_who_holds_no_slot_waits_for_no_hoard(model):
    hoard = [of("hoarder", prompt, (0.5 * n,), max_tokens=80) for n, prompt in enumerate(prompts(8))]
    guests = [of(f"guest {n}", [n + 1], max_tokens=3) for n in range(3)]
    with SlotEngine(model, slots=4, prefill_chunk=16) as engine:
        generations = submit_a_hoard(engine, hoard)
        short = [engine.submit(guest).result(60).tokens for guest in guests]
        assert not any(generation.outcome for generation in generations)
        long = [generation.result(60).tokens for generation in generations]
        assert engine.stats().queued == engine.stats().active == 0
    assert short + long == naive_answers(model, (*guests, *hoard), short + long)


def test_a_sequence_set_aside_goes_on_unchanged(model):
    """Sampled, with log-probabilities, and one of them amid its prompt."""
    sampled = {"max_tokens": 60, "temperature": 1.0, "top_logprobs": 2}
    hoard = [of("hoarder", [n + 1, 2], (1.0,), seed=n, **sampled) for n in range(7)]
    hoard.append(of("hoarder", list(range(90)), (2.0,), seed=9, prompt_logprobs=True, **sampled))
    with SlotEngine(model, slots=8, prefill_chunk=4, prefix_cache=0) as engine:
        alone = [engine.submit(wanted).result(60) for wanted in hoard]
        generations = [engine.submit(wanted) for wanted in hoard]
        while len(generations[0]._events) < 20:
            time.sleep(0.001)
        guests = [engine.submit(of(f"guest {n}", [n + 1], max_tokens=30)) for n in range(2)]
        most = 0
        while any(guest.outcome is None for guest in guests):
            most = max(most, len(engine._scheduler.aside))
        together = [generation.result(60) for generation in generations]
    assert most == 2
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]
    assert [event.logprob for event in together[-1].prompt or ()] == pytest.approx(
        [event.logprob for event in alone[-1].prompt or ()], abs=1e-4
    )


def test_clients_that_wait_take_turns(model):
    with SlotEngine(model, slots=1) as engine:
        ended: list[str] = []
        names = ["a", "a", "a", "b"]
        generations = [engine.submit(of(name, [n + 1], max_tokens=60)) for n, name in enumerate(names)]
        threads = [
            threading.Thread(target=lambda given=generation, name=name: (given.result(60), ended.append(name)))
            for generation, name in zip(generations, names, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ended[0] == "a" and ended[1:3].count("b") == 1, ended


def ended_order(engine):
    """A list that grows by the client of each answer as it ends."""
    order, ended = [], engine._scheduler._ended
    engine._scheduler._ended = lambda running: (order.append(running.request.client), ended(running))
    return order


def test_who_holds_less_gets_a_second_slot(model):
    with SlotEngine(model, slots=16) as engine:
        order = ended_order(engine)
        hoard = submit_a_hoard(engine, [of("hoarder", [n + 1], max_tokens=100) for n in range(16)])
        guests = [engine.submit(of("guest", [n + 1], max_tokens=2)) for n in range(2)]
        for generation in (*guests, *hoard):
            generation.result(60)
    assert order == ["guest"] * 2 + ["hoarder"] * 16


def test_a_long_prompt_holds_up_no_other_client(model):
    long = [of("reader", [n + 1] * 100, max_tokens=2) for n in range(3)]
    short = [of(f"guest {n}", [n + 1, 2], max_tokens=1) for n in range(2)]
    with SlotEngine(model, slots=8, prefill_chunk=4) as engine:
        order = ended_order(engine)
        with engine._admission.changed:  # so that all are there before the first is begun
            generations = [engine.submit(wanted) for wanted in (*long, *short)]
        answers = [generation.result(60).tokens for generation in generations]
    assert order[:2] == ["guest 0", "guest 1"]
    assert answers == naive_answers(model, (*long, *short), answers)


@pytest.fixture
def steps(monkeypatch):
    """The tokens of each client in every step, each of which takes as many seconds."""
    clock, tokens = [0.0], []

    def step(*arguments):
        tokens.append(run_step(*arguments))
        clock[0] += sum(tokens[-1].values())
        return tokens[-1]

    monkeypatch.setattr(slot_engine, "run_step", step)
    monkeypatch.setattr(slot_engine, "time", SimpleNamespace(thread_time=lambda: clock[0]))
    monkeypatch.setattr(turns, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return tokens


def tokens_beside(steps, guest):
    """Of others, from the guest's first step to its last."""
    present = [number for number, step in enumerate(steps) if guest in step]
    return sum(sum(step.values()) - step.get(guest, 0) for step in steps[present[0] : present[-1] + 1])


def test_who_is_ahead_waits_for_who_is_not(model, steps):
    hoard = [of("hoarder", [n + 1], max_tokens=100) for n in range(7)]
    guest = of("guest", [9], max_tokens=60)
    with SlotEngine(model, slots=8) as engine:
        generations = submit_a_hoard(engine, hoard)
        answer = engine.submit(guest).result(60).tokens
        answers = [generation.result(60).tokens for generation in generations]
    assert 60 <= tokens_beside(steps, "guest") <= 60 + 8 * (turns.PATIENCE + 1)  # 420 in the same steps
    assert max(step.get("hoarder", 0) for step in steps) == 7
    assert [answer, *answers] == naive_answers(model, (guest, *hoard), [answer, *answers])


def test_pieces_are_shorter_where_several_compute(model, steps):
    long = [of("reader", [n + 1] * 100, max_tokens=1) for n in range(2)]
    with SlotEngine(model, slots=4, prefill_chunk=16) as engine:
        engine.submit(long[0]).result(60)
        alone = max(step["reader"] for step in steps)
        with engine._admission.changed:
            asked = [engine.submit(of("guest", [9], max_tokens=100)), engine.submit(long[1])]
        answer = asked[1].result(60).tokens
        asked[0].cancel()
    assert [answer] == naive_answers(model, long[1:], [answer])
    beside = [step["reader"] for step in steps if step.get("guest") and step.get("reader")]
    assert alone == 16 and beside and max(beside) == 8


def test_long_hoards_run_few_answers_beside_a_guest(model, steps):
    hoard = [of("hoarder", [n + 1], max_tokens=100) for n in range(7)]
    guest = of("guest", [9], max_tokens=turns.SHORT // 2)
    with SlotEngine(model, slots=8) as engine:
        generations = submit_a_hoard(engine, hoard)
        while sum(step.get("hoarder", 0) for step in steps) < 20 * turns.SHORT:
            time.sleep(0.001)
        answer = engine.submit(guest).result(60).tokens
        answers = [generation.result(60).tokens for generation in generations]
    beside = [step["hoarder"] for step in steps if step.get("guest") and step.get("hoarder")]
    assert beside and max(beside) == turns.BESIDE
    assert steps[-1]["hoarder"] <= 7 and 7 in [step.get("hoarder") for step in steps[-40:]]
    assert [answer, *answers] == naive_answers(model, (guest, *hoard), [answer, *answers])


def answers_of(**lengths):
    """Answers of so many tokens each, by client."""
    return [
        SimpleNamespace(request=SimpleNamespace(client=client), tokens=range(length))
        for client, each in lengths.items()
        for length in each
    ]


def running(turn, **lengths):
    """The lengths of the answers that run, by client."""
    found = {}
    for answer in turn.answering(answers_of(**lengths)):
        found.setdefault(answer.request.client, []).append(len(answer.tokens))
    return found


def test_of_long_clients_the_shortest_answers_run():
    turn = Turn(frozenset("abc"), 64, short=frozenset("c"))
    assert turn.beside == {"a", "b"} and turn.piece_beside == 64 // (2 * turns.BESIDE)
    found = running(turn, a=[90, 20, 21], b=[80, 5, 30], c=[1])
    assert found == {"a": [20, 21], "b": [5, 30], "c": [1]}
    eighth = turns.RUN * 2
    assert running(turn, a=[eighth + n for n in range(6)], c=[1])["a"] == [eighth + n for n in range(4)]


def test_short_clients_run_as_many_as_who_has_fewest():
    turn = Turn(frozenset("ab"), 64, short=frozenset("ab"))
    assert running(turn, a=[1] * 9, b=[1]) == {"a": [1] * turns.BESIDE, "b": [1]}
    assert running(turn, a=[1] * 9, b=[1] * 6) == {"a": [1] * 6, "b": [1] * 6}
    assert running(turn, a=[1] * 9) == {"a": [1] * 9}


def test_where_nobody_is_short_all_answers_run():
    turn = Turn(frozenset("ab"), 64)
    assert running(turn, a=[1] * 9, b=[1]) == {"a": [1] * 9, "b": [1]}
    assert turn.beside == frozenset()


def read_beside(module):
    """The part of the time in which texts of a long client are read, beside one that is short."""
    turn = module.Turn(frozenset("ab"), 64, short=frozenset("b"))
    of_all, read, run = module.Turns(64, lambda: 0.0), 0.0, 0.0
    of_all.among("ab")
    for _ in range(400):
        assert "b" in of_all.readers(turn)
        if "a" in of_all.readers(turn):
            of_all.charge_reading(turn, "a", 3.0)
            read += 3.0
        of_all.charge_step({"b": 1}, 1.0)
        run += 1.0
    assert of_all.readers(module.Turn(frozenset("a"), 64)) == {"a"}
    return read / (read + run)


def test_texts_of_long_clients_take_a_part_of_the_time():
    assert read_beside(turns) == pytest.approx(1 / turns.BESIDE, rel=0.05)


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("self.clients - self.short if self.short", "self.short if self.short"),
        ("max(BESIDE, min(map(len", "max(BESIDE, max(map(len"),
        ("if self.short else len(first)", "if self.short else BESIDE"),
        ("// RUN)[:count]", "// 1)[:count]"),
        ("key=lambda answer: len(answer.tokens)", "key=lambda answer: -len(answer.tokens)"),
        ("(BESIDE - 1) * seconds * (client in turn.beside)", "0.0"),
        ("turn.clients - turn.beside", "turn.clients"),
        ("max(0.0, self._until_read - seconds)", "0.0"),
    ],
)
def test_a_change_of_a_rule_is_noticed(passage, replacement):
    def holds(module):
        some = module.Turn(frozenset("ab"), 64, short=frozenset("b"))
        both = module.Turn(frozenset("ab"), 64, short=frozenset("ab"))
        none = module.Turn(frozenset("ab"), 64)
        return (
            running(some, a=[90, 20, 21, 19, 22, 16], b=[1]) == {"a": [20, 21, 19, 22], "b": [1]}
            and running(both, a=[1] * 9, b=[1]) == {"a": [1] * 4, "b": [1]}
            and running(none, a=[1] * 9, b=[1]) == {"a": [1] * 9, "b": [1]}
            and read_beside(module) == pytest.approx(1 / 4, rel=0.05)
        )

    assert holds(turns)
    with mutant(turns, passage, replacement) as changed:
        assert not holds(changed)


def test_who_holds_one_slot_keeps_it(model):
    with SlotEngine(model, slots=4) as engine:
        running = submit_a_hoard(engine, [of(f"client {n}", [n + 1], max_tokens=60) for n in range(4)])
        late = engine.submit(of("late", [9], max_tokens=2))
        late.result(60)
        assert any(generation.outcome for generation in running)


def test_what_is_set_aside_is_bounded_and_counted(model):
    with SlotEngine(model, slots=8, prefix_cache=0) as engine:
        submit_a_hoard(engine, [of("hoarder", [n + 1], max_tokens=90) for n in range(8)])
        held, full = engine.stats().slots
        guests = [engine.submit(of(f"guest {n}", [n + 1], max_tokens=40)) for n in range(4)]
        while not guests[0]._events or not guests[1]._events:
            time.sleep(0.001)
        assert len(engine._scheduler.aside) <= 4
        assert held <= engine.stats().slots[0] <= full
        assert engine.stats().queued >= 2
        for guest in guests:
            guest.result(60)


@pytest.mark.parametrize("ends", ["cancelled", "closed"])
def test_a_sequence_set_aside_can_be_ended(model, ends):
    with SlotEngine(model, slots=4) as engine:
        hoard = submit_a_hoard(engine, [of("hoarder", [n + 1], max_tokens=100) for n in range(4)])
        guest = engine.submit(of("guest", [1], max_tokens=100))
        while not guest._events:
            time.sleep(0.001)
        if ends == "cancelled":
            hoard[-1].cancel()
            assert hoard[-1].result(60).outcome.reason == "cancelled"
            assert guest.result(60).outcome.generated_tokens == 100
            assert engine.drain(60)
    assert hoard[-1].result(60).outcome.reason == "cancelled"
    assert len(hoard[-1].result(60).tokens) < 100


def test_one_that_cannot_go_on_ends_alone(model, monkeypatch, caplog):
    with SlotEngine(model, slots=4) as engine:
        hoard = submit_a_hoard(engine, [of("hoarder", [n + 1], max_tokens=60) for n in range(4)])
        guest = engine.submit(of("guest", [1], max_tokens=20))
        while not guest._events:
            time.sleep(0.001)
        reserve = engine._runner.cache.reserve

        def without_memory(length):
            monkeypatch.setattr(engine._runner.cache, "reserve", reserve)
            raise MemoryError

        monkeypatch.setattr(engine._runner.cache, "reserve", without_memory)
        for generation in (*hoard[:3], guest):
            assert generation.result(60).outcome.reason == "length"
        with pytest.raises(EngineStopped, match="could not go on .MemoryError.; try again"):
            hoard[3].result(60)
    assert "could not be resumed" in caplog.text


def test_who_holds_little_is_not_refused_for_a_hoard(model):
    with SlotEngine(model, slots=4, queue_limit=4) as engine:
        hoard = submit_a_hoard(engine, [of("hoarder", [n + 1], max_tokens=100) for n in range(8)])
        with pytest.raises(QueueFull):
            engine.submit(of("hoarder", [1]))
        guest = engine.submit(of("guest", [1], max_tokens=100))
        with pytest.raises(QueueFull):
            engine.submit(of("guest", [1]))
        others = [engine.submit(of(f"other {n}", [1], max_tokens=100)) for n in range(3)]
        with pytest.raises(QueueFull):
            engine.submit(of("one too many", [1]))
        for generation in (*hoard, guest, *others):
            generation.cancel()
