import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace

import anyio
import pytest

from serving.api.errors import ShareExceeded
from serving.api.fair_share import THREADS, FairShare


@dataclass
class Places:
    """An engine as a share sees it: how many places it has, and which are taken."""

    capacity: int = 4
    queue_limit: int = 16
    generations: list = field(default_factory=list)

    def stats(self):
        taken = sum(generation.outcome is None for generation in self.generations)
        active = min(taken, self.capacity)
        return SimpleNamespace(
            active=active, queued=taken - active, capacity=self.capacity, queue_limit=self.queue_limit
        )

    def begin(self, n):
        begun = [SimpleNamespace(outcome=None) for _ in range(n)]
        self.generations += begun
        return begun


def hold(shares, engine, client):
    """Requests of one answer each, until one is refused."""
    held = 0
    while held < 100:
        try:
            shares.submit(client, engine, lambda: engine.begin(1))
        except ShareExceeded:
            return held
        held += 1
    raise AssertionError("nothing was refused")


def test_a_client_leaves_room_for_the_next():
    shares, engine = FairShare(), Places()
    first = hold(shares, engine, "first")
    second = hold(shares, engine, "second")
    assert (first, second) == (11, 5)
    assert shares.submit("third", engine, lambda: engine.begin(1))


def test_places_come_back_when_answers_end():
    shares, engine = FairShare(), Places()
    held = hold(shares, engine, "first")
    for generation in engine.generations:
        generation.outcome = object()
    assert hold(shares, engine, "first") == held


def test_as_many_places_as_slots_are_never_refused():
    shares, engine = FairShare(), Places(capacity=8, queue_limit=0)
    for _ in range(8):
        assert shares.submit("only", engine, lambda: engine.begin(1))


def test_a_reading_holds_a_place_until_it_has_ended():
    shares, engine = FairShare(), Places(capacity=1, queue_limit=0)
    engine.begin(1)
    reading: Future = Future()
    assert shares.submit("only", engine, lambda: [reading]) == [reading]
    shares.submit("only", engine, lambda: engine.begin(1))
    with pytest.raises(ShareExceeded):
        shares.submit("only", engine, lambda: engine.begin(1))
    assert shares.submit("other", engine, lambda: engine.begin(1))
    reading.set_result(())
    assert shares.submit("only", engine, lambda: engine.begin(1))


def test_a_refused_request_holds_nothing():
    shares, engine = FairShare(), Places()

    def refuse():
        raise RuntimeError

    for _ in range(30):
        with pytest.raises(RuntimeError):
            shares.submit("only", engine, refuse)
    assert shares.submit("only", engine, lambda: engine.begin(16))


def test_a_slow_beginning_holds_up_no_other_client():
    shares, engine = FairShare(), Places()
    begun, release = threading.Event(), threading.Event()

    def compile_slowly():
        begun.set()
        assert release.wait(10)
        return engine.begin(1)

    slow = threading.Thread(target=lambda: shares.submit("slow", engine, compile_slowly))
    slow.start()
    assert begun.wait(10)
    assert shares.submit("quick", engine, lambda: engine.begin(1))  # would wait for ever if it waited
    release.set()
    slow.join(10)
    assert len(engine.generations) == 2


def test_requests_that_are_beginning_count():
    shares, engine = FairShare(), Places(capacity=1, queue_limit=0)
    engine.begin(1)

    def begin_another():
        with pytest.raises(ShareExceeded):
            shares.submit("only", engine, lambda: pytest.fail("it was begun"))
        return []

    shares.submit("only", engine, lambda: shares.submit("only", engine, begin_another))


def test_a_client_on_all_its_threads_holds_up_no_other():
    release = threading.Event()
    running = []

    def work(number):
        running.append(number)
        assert release.wait(10)

    async def crowd():
        shares = FairShare()
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(shares.run, "hostile", work, number)
            while len(running) < THREADS:
                await anyio.sleep(0.01)
            began = time.monotonic()
            assert await shares.run("other", lambda: "answered") == "answered"
            assert time.monotonic() - began < 5
            assert len(running) == THREADS
            release.set()
        return shares

    shares = anyio.run(crowd)
    assert len(running) == 100 and not shares._threads
