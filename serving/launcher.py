"""Launcher: the process of `bentoml serve` that starts the workers, and what it says and does beside BentoML."""

import errno
import os
import signal
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from serving.ports import listening_problem

UNHEARD = {
    "api_workers": "TRUSTTRACE_WORKERS",
    "timeout": "TRUSTTRACE_TIMEOUT",
    "timeout_graceful_shutdown": "TRUSTTRACE_DRAIN",
}
"""Options of `bentoml serve` that change nothing here, and the settings that do."""


def require_heard(options: Mapping[str, Any]) -> None:
    """Exit with one sentence where an option was given that would change nothing."""
    for name, setting in UNHEARD.items():
        value = options.get(name)
        if value is not None:
            raise SystemExit(
                f"--{name.replace('_', '-')} {value} is not heard here: set {setting}={value} in its place"
            )


def end_at_hangup(handler: Any) -> None:
    """A closed terminal ends the service, and is nothing to one that was started by `nohup`.

    ``handler`` is circus' class of signal handlers. By itself it starts all workers anew, and the service stays on its
    port with nobody to end it.
    """
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        handler.SIGNALS = [number for number in handler.SIGNALS if number != signal.SIGHUP]
    else:
        handler.handle_hup = handler.handle_term


def close_port_at_end(handler: Any) -> None:
    """Refuse new connections as soon as the service is to end; held open, they would be answered by nobody.

    The workers close the port for themselves then, and circus' own process does so when they have ended.
    """
    former = handler.quit

    def quit_closed(self: Any) -> None:
        self.controller.arbiter.sockets.close_all()
        former(self)

    handler.quit = quit_closed


def replace_killed_workers(bentoml_serving: Any) -> None:
    """A worker that was killed is replaced in a container too.

    BentoML leaves that to whoever runs the container in its own images, which set ``BENTOML_CONTAINERIZED``. The
    container goes on without the worker, so that nobody notices.
    """
    bentoml_serving.running_inside_container = lambda: False


def tell_taken_ports(host: str, port: int) -> None:
    """Say in a sentence that a port was taken after it was looked at; BentoML ends with a traceback."""
    former = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if getattr(error, "errno", None) != errno.EADDRINUSE:
            former(kind, error, traceback)
            return
        own = "a port between BentoML's processes was taken while the service started; start it again"
        os.write(2, f"{listening_problem(host, port) or own}\n".encode())

    sys.excepthook = tell
