"""Wakes: readers of generations awoken from the engine's thread, those of one step together.

Waking an event loop is a system call in which the interpreter changes hands, and a step has a token for every answer.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

_held = threading.local()


class Reader:
    """Waits on an event loop for ``changed``."""

    def __init__(self, changed: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        self.changed, self.loop = changed, loop

    def wake(self) -> None:
        """From any thread; inside ``together``, at its end."""
        readers: list[Reader] | None = getattr(_held, "readers", None)
        if readers is None:
            _wake(self.loop, [self.changed])
        else:
            readers.append(self)


@contextmanager
def together() -> Iterator[None]:
    """Wake each event loop once, at the end, for all readers that this thread wakes inside."""
    readers: list[Reader] = []
    _held.readers = readers
    try:
        yield
    finally:
        _held.readers = None
        for loop in {reader.loop for reader in readers}:
            _wake(loop, [reader.changed for reader in readers if reader.loop is loop])


def _wake(loop: asyncio.AbstractEventLoop, waited: Sequence[asyncio.Event]) -> None:
    def set_all() -> None:
        for changed in waited:
            changed.set()

    with suppress(RuntimeError):  # the loop has closed: nobody waits
        loop.call_soon_threadsafe(set_all)
