"""Admission, as both engines use it."""

import threading

import pytest

from serving.engine.admission import Admission
from serving.engine.base import EngineStopped, QueueFull


def test_a_full_queue_tells_how_long_turns_take():
    admission = Admission(slots=2, queue_limit=1)
    for _ in range(3):
        admission.admit()
    with pytest.raises(QueueFull, match="1 requests wait already; try again in 2 s") as raised:
        admission.admit()
    assert raised.value.retry_after == pytest.approx(1.5)
    assert (admission.active, admission.waiting) == (2, 1)
    for _ in range(50):
        admission.ended(10.0)
        admission._unended += 1
    with pytest.raises(QueueFull) as raised:
        admission.admit()
    assert raised.value.retry_after == pytest.approx(15, rel=0.05)


def test_a_queue_without_places_says_what_is_taken():
    admission = Admission(slots=1, queue_limit=0)
    admission.admit()
    with pytest.raises(QueueFull, match="^all slots are taken; try again in 1 s"):
        admission.admit()


def test_draining_admits_nobody_and_waits_for_the_last():
    admission = Admission(slots=1, queue_limit=5)
    admission.admit()
    assert not admission.drain(0)
    with pytest.raises(EngineStopped, match="shutting down"):
        admission.admit()
    threading.Timer(0.05, admission.ended).start()
    assert admission.drain(10)


def test_a_problem_is_told_before_the_shutdown():
    admission = Admission(slots=1, queue_limit=5)
    admission.close("the engine has stopped (X)")
    with pytest.raises(EngineStopped, match=r"has stopped \(X\)"):
        admission.admit()


def test_without_a_queue_free_slots_are_still_given():
    admission = Admission(slots=2, queue_limit=0)
    admission.admit()
    admission.admit()
    with pytest.raises(QueueFull):
        admission.admit()
    admission.ended(1.0)
    admission.admit()
