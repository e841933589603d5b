"""Shutdown: deadlines that a process is held to from outside, whatever its threads and clients do."""

import signal
import subprocess
import sys
import time

import pytest

from serving.api.shutdown import Deadlines
from tests.serving.conftest import ROOT

BUSY = """
import os, signal, sys, threading, time
signal.signal(signal.SIGTERM, lambda *_: None)
from serving.api.shutdown import Deadlines, on_termination
# Not by print: the signal may come while the line below is being flushed.
on_termination(lambda: os.write(1, b"left\\n"), Deadlines.of_drain(2.0))
threading.Thread(target=time.sleep, args=(60,)).start()
print("begun", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("drain", [0.0, 1.0, 3.0, 10.0, 30.0])
def test_deadlines_come_in_their_order_within_the_drain(drain):
    deadlines = Deadlines.of_drain(drain)
    times = (deadlines.arriving, deadlines.answers, deadlines.connections, deadlines.process)
    assert 0 <= times[0] <= times[1] <= times[2] <= times[3] <= max(1.0, drain)
    assert times[1] >= 0.75 * drain


def test_most_of_the_drain_is_the_answers():
    assert Deadlines.of_drain(30.0) == Deadlines(arriving=1.0, answers=28.0, connections=28.5, process=29.0)
    assert Deadlines.of_drain(0.0) == Deadlines(arriving=0.0, answers=0.0, connections=0.0, process=1.0)


def test_a_thread_that_nothing_interrupts_ends_with_the_drain():
    process = subprocess.Popen([sys.executable, "-c", BUSY], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert 1.5 < time.monotonic() - began < 10
        assert process.stdout.read() == "left\n"
