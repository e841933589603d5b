"""What a hang-up does for a while, and to processes that begin then, however these tests were started."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hangups(action: signal.Handlers) -> Iterator[None]:
    """``SIG_IGN`` is as below `nohup`."""
    before = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
