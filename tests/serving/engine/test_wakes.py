"""Wakes: what a step tells its readers awakes their event loop once, and everybody on it."""

import asyncio
import threading

import pytest

from serving.engine import wakes
from serving.engine.wakes import Reader, together
from tests.mutants import mutant


class CountingLoop:
    """The event loop as readers know it."""

    def __init__(self, loop):
        self.loop, self.calls = loop, 0

    def call_soon_threadsafe(self, call):
        self.calls += 1
        self.loop.call_soon_threadsafe(call)


def woken(n, tell, module=wakes):
    """How many of ``n`` readers on one event loop ``tell`` wakes from another thread, and how often the loop was."""

    async def run():
        loop = CountingLoop(asyncio.get_running_loop())
        readers = [module.Reader(asyncio.Event(), loop) for _ in range(n)]
        await asyncio.to_thread(tell, readers)
        waits = (asyncio.wait_for(reader.changed.wait(), 0.2) for reader in readers)
        found = await asyncio.gather(*waits, return_exceptions=True)
        return sum(awoken is True for awoken in found), loop.calls

    return asyncio.run(run())


def wake_together(readers, module=wakes):
    with module.together():
        for reader in readers:
            reader.wake()


def test_readers_of_a_step_are_woken_by_one_call():
    assert woken(3, wake_together) == (3, 1)
    assert woken(3, lambda readers: [reader.wake() for reader in readers]) == (3, 3)


def test_what_fails_in_between_wakes_them_all_the_same():
    def fail(readers):
        with pytest.raises(ValueError, match="amid"), together():
            readers[0].wake()
            raise ValueError("amid")

    assert woken(1, fail) == (1, 1)


def test_another_thread_does_not_wait_for_the_step():
    def tell(readers):
        with together():
            thread = threading.Thread(target=readers[0].wake)
            thread.start()
            thread.join()
            readers[1].wake()

    assert woken(2, tell) == (2, 2)


def test_a_loop_that_has_closed_harms_nobody():
    loop = asyncio.new_event_loop()
    loop.close()
    wake_together([Reader(asyncio.Event(), loop)])
    assert getattr(wakes._held, "readers", None) is None


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("            _wake(loop, [reader.changed for reader in readers if reader.loop is loop])", "            pass"),
        ("readers.append(self)", "_wake(self.loop, [self.changed])"),
        ("for changed in waited:", "for changed in waited[:1]:"),
    ],
)
def test_a_change_of_a_wake_is_noticed(passage, replacement):
    with mutant(wakes, passage, replacement) as changed:
        assert woken(3, lambda readers: wake_together(readers, changed), changed) != (3, 1)
