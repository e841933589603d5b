"""Shutdown: what has to happen as soon as the process is asked to end, before the server waits for its clients."""

import math
import signal
from collections.abc import Callable
from types import FrameType

import uvicorn


def on_termination(leave: Callable[[], None], seconds: float) -> None:
    """Call ``leave`` at SIGTERM and SIGINT, then uvicorn's own handler; connections end ``seconds`` later at most.

    uvicorn waits for its connections first and tells the application afterwards, by default without a limit: one client
    that neither sends nor reads would keep the process for ever. From the main thread, once uvicorn runs.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)
        if not callable(previous):
            continue
        server = getattr(previous, "__self__", None)
        if isinstance(server, uvicorn.Server):
            server.config.timeout_graceful_shutdown = math.ceil(seconds)

        def handle(number: int, frame: FrameType | None, previous: Callable[..., object] = previous) -> None:
            leave()
            previous(number, frame)

        signal.signal(number, handle)
