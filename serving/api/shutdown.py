"""Shutdown: what has to happen as soon as the process is asked to end, before the server waits for its clients."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import uvicorn

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deadlines:
    """Seconds after SIGTERM, in the order in which they come; the process has ended before its drain is over."""

    arriving: float
    """Until then requests that have arrived are still admitted."""
    answers: float
    """Then running answers are broken off, and their clients told so."""
    connections: float
    """Then clients that read nothing are cut off."""
    process: float
    """Then the process ends, whatever a thread of it is still busy with."""

    @classmethod
    def of_drain(cls, drain: float) -> "Deadlines":
        """A quarter of the drain, and two seconds at most, is for telling clients and for ending.

        Half of that is left to the process that started this one, which ends after it.
        """
        closing = min(2.0, drain / 4)
        return cls(min(1.0, drain / 4), drain - closing, drain - 0.75 * closing, max(1.0, drain - closing / 2))


def on_termination(leave: Callable[[], None], deadlines: Deadlines, end: Callable[[int], object] = os._exit) -> None:
    """Call ``leave`` at SIGTERM and SIGINT, then uvicorn's own handler, and hold uvicorn to the deadlines.

    uvicorn waits for its connections first and tells the application afterwards, by default without a limit: one client
    that neither sends nor reads would keep the process for ever. So would a thread that tokenises or compiles, which
    nothing can interrupt: ``end`` ends the process without waiting for any. From the main thread, once uvicorn runs.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)
        if not callable(previous):
            continue
        server = getattr(previous, "__self__", None)
        if isinstance(server, uvicorn.Server):
            server.config.timeout_graceful_shutdown = deadlines.connections  # type: ignore[assignment]

        def handle(number: int, frame: FrameType | None, previous: Callable[..., object] = previous) -> None:
            after(deadlines.process, lambda: end(0))
            leave()
            previous(number, frame)

        signal.signal(number, handle)


def end_with(launcher: int, seconds: float = 0.5) -> None:
    """End as by SIGTERM once the process ``launcher`` that started this one was killed.

    Else the worker would keep its port and its memory, and nobody would start another one in its place.
    """

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(seconds)
        logger.error("the process that started this worker was killed, so it ends too")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="launcher", daemon=True).start()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def after(seconds: float, function: Callable[[], object]) -> None:
    """Call ``function`` on a thread after so many seconds, unless the process has ended."""
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
