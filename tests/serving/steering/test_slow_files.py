"""Files that do not come are asked for again, after a rest that grows with the time they took."""

import pytest

from registry.errors import Unavailable
from serving.steering import slow_files
from tests.mutants import mutant


class Store:
    """Files that fail after ``seconds`` on a clock of its own, while ``fails``."""

    def __init__(self, seconds=10.0):
        self.now, self.seconds, self.fails, self.tries = 0.0, seconds, True, 0

    def fetch(self):
        self.tries += 1
        self.now += self.seconds
        if self.fails:
            raise Unavailable(f"try {self.tries} failed")
        return "files"


def tries_of_two_minutes(module=slow_files, seconds=10.0):
    """How often one look a second asks for files that do not come, and how much of the time it waits for them."""
    store = Store(seconds)
    slow = module.SlowFiles(lambda: store.now)
    while store.now < 120:
        with pytest.raises(Unavailable, match=f"try {max(1, store.tries)} failed|try {store.tries + 1} failed"):
            slow.load("models:/a/1", store.fetch)
        store.now += 1
    return store.tries, store.tries * seconds / store.now


def test_waiting_takes_a_quarter_of_the_time():
    tries, share = tries_of_two_minutes()
    assert tries == 3 and share <= 0.26
    with mutant(slow_files, "ended + REST * (ended - began)", "ended") as eager:
        assert tries_of_two_minutes(eager)[1] > 0.8


def test_what_fails_at_once_is_tried_at_every_look():
    assert tries_of_two_minutes(seconds=0.0)[0] == 120


def test_files_that_come_after_all_are_loaded():
    store = Store()
    slow = slow_files.SlowFiles(lambda: store.now)
    with pytest.raises(Unavailable, match="try 1"):
        slow.load("models:/a/1", store.fetch)
    store.fails = False
    with pytest.raises(Unavailable, match="try 1"):
        slow.load("models:/a/1", store.fetch)
    assert slow.load("models:/b/1", store.fetch) == "files"
    store.now += 30
    assert slow.load("models:/a/1", store.fetch) == "files"
    assert slow.load("models:/a/1", store.fetch) == "files"
