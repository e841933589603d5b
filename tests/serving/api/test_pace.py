"""Pace: a client beside others waits for its turn, one that is alone never does, and nobody waits for ever."""

import asyncio

import httpx
import pytest

from serving.api.errors import ShareExceeded
from serving.api.middleware import ServiceMiddleware
from serving.api.pace import BURST_SECONDS, BYTES, LONGEST, REFUSED, Pace
from serving.settings import Settings


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(10, clock)


def waits(pace, client, count):
    return [pace.begin(client) for _ in range(count)]


def test_a_client_that_is_alone_never_waits(pace):
    assert waits(pace, "a", 500) == [0.0] * 500


def test_beside_others_requests_beyond_the_burst_are_spaced(pace, clock):
    pace.begin("other")
    burst = round(10 * BURST_SECONDS)
    assert waits(pace, "a", burst + 3)[burst:] == pytest.approx([0.0, 0.1, 0.2])
    assert pace.begin("b") == 0.0
    clock.now += 10
    assert pace.begin("a") == 0.0


def test_who_would_wait_too_long_is_refused_until_later(pace, clock):
    pace.begin("other")
    taken = waits(pace, "a", 1 + round(10 * (BURST_SECONDS + LONGEST)))
    assert taken[-1] == pytest.approx(LONGEST)
    with pytest.raises(ShareExceeded, match="more requests than the 10 a second .*TRUSTTRACE_PACE"):
        pace.begin("a")
    clock.now += 1
    assert pace.begin("a") == pytest.approx(LONGEST - 0.9)


def test_requests_that_have_ended_hold_up_nobody(pace):
    pace.begin("other")
    pace.end("other")
    assert waits(pace, "a", 500) == [0.0] * 500


def test_without_a_rate_nobody_waits():
    pace = Pace(0)
    pace.begin("other")
    assert waits(pace, "a", 500) == [0.0] * 500


def test_a_large_body_counts_as_several_requests(pace, clock):
    pace.begin("other")
    assert pace.begin("a") == 0.0
    pace.arrived("a", 3 * BYTES)
    burst = round(10 * BURST_SECONDS)
    assert waits(pace, "a", burst)[burst - 4 :] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert pace.begin("b") == 0.0
    clock.now += 10
    pace.arrived("a", 10 * BYTES)
    assert pace.begin("a") == 0.0


def test_bodies_of_who_is_alone_count_nothing(pace):
    for rule in (pace, Pace(0)):
        rule.begin("a")
        rule.arrived("a", 1000 * BYTES)
        rule.begin("other")
        assert rule.begin("a") == 0.0


def test_refused_requests_count_as_several(pace, clock):
    pace.begin("other")
    burst = round(10 * BURST_SECONDS)
    for client, refused in (("a", True), ("b", False)):
        pace.begin(client)
        pace.end(client, refused=refused)
        waited = waits(pace, client, burst)
        expected = [0.1 * n for n in range(REFUSED + 1)] if refused else [0.0] * (REFUSED + 1)
        assert waited[burst - REFUSED - 1 :] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("path", "size", "first", "second"),
    [("/200", 10, 200, 200), ("/400", 10, 400, 429), ("/200", 10 * BYTES, 200, 429), ("/429", 10, 429, 200)],
)
def test_what_clients_send_decides_when_they_are_next(path, size, first, second):
    """While another client's request is under way."""

    async def answer(scope, receive, send):
        await receive()
        if scope["path"] == "/waits":
            under_way.set()
            await ended.wait()
        status = int(scope["path"][1:]) if scope["path"][1:].isdigit() else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(client, key, path, size):
        return (await client.post(path, content=b" " * size, headers={"authorization": f"Bearer {key}"})).status_code

    async def run():
        edge = ServiceMiddleware(answer, answer, Settings(api_keys=("a", "b"), pace=0.4))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost") as client:
            other = asyncio.create_task(ask(client, "b", "/waits", 1))
            await under_way.wait()
            statuses = [await ask(client, "a", path, size), await ask(client, "a", "/200", 1)]
            ended.set()
            assert await other == 200
        return statuses

    under_way, ended = asyncio.Event(), asyncio.Event()
    assert asyncio.run(run()) == [first, second]
