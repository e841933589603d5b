"""Pace: a client beside others waits for its turn, one that is alone never does, and nobody waits for ever."""

import pytest

from serving.api.errors import ShareExceeded
from serving.api.pace import BURST_SECONDS, LONGEST, Pace


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
    with pytest.raises(ShareExceeded, match="more than the 10 requests a second .*TRUSTTRACE_PACE"):
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
