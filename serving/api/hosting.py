"""Hosting: one served model with its application, metrics and traces, as each worker of the service has it."""

import asyncio
import os
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from registry.traces import TraceLog
from serving.api import metrics
from serving.api.app import create_app, route_templates
from serving.api.bento_client import GenerateRequest, answer_prompt
from serving.api.bodies import RequestBodies
from serving.api.dependencies import RequestContext
from serving.api.request_record import RequestRecord
from serving.api.shutdown import Deadlines, after, end_with, is_alive, on_termination
from serving.api.tracing import trace_of
from serving.served_model import ServedModel
from serving.settings import Settings
from serving.steering.shared_state import SharedState

SWITCH_SECONDS = 0.0005
"""How long the event loop, or a thread that reads a request, may keep the engine from the interpreter, which it asks
for hundreds of times a step; a tenth of Python's default.
"""

LOOK_SECONDS = 0.1
LOADED = "loaded-"
"""Files of the workers that have loaded the model, by their process."""


class Hosting:
    """The application and all that it answers with. ``state`` is the folder that the workers of a service share, and
    ``launcher`` the process that started this one.
    """

    def __init__(self, settings: Settings, state: Path, launcher: int) -> None:
        self._settings, self._state, self._launcher = settings, state, launcher
        self._served = ServedModel(settings, shared=SharedState(state / "changes.json"))
        self._traces = TraceLog(is_shared=settings.workers > 1) if settings.trace else None
        self._bodies = RequestBodies(settings.body_limit, settings.body_timeout)
        self.app = create_app(self._served, self._traces)

    @property
    def middleware_options(self) -> dict[str, Any]:
        """What ``ServiceMiddleware`` is given besides the application that it stands before."""
        return {
            "own": self.app,
            "settings": self._settings,
            "on_end": self._count,
            "routes": route_templates(self.app),
            "bodies": self._bodies,
        }

    @property
    def is_ready(self) -> bool:
        return self._served.status == "ready"

    def start(self) -> None:
        """Load the model, and leave in good order when asked to; from the main thread, on the server's event loop."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._served.start()
        loop = asyncio.get_running_loop()

        def leave() -> None:
            loop.call_soon_threadsafe(self._bodies.close)
            after(deadlines.arriving, lambda: self._served.drain(deadlines.answers - deadlines.arriving))

        deadlines = Deadlines.of_drain(self._settings.drain)
        on_termination(leave, deadlines)
        end_with(self._launcher)
        threading.Thread(target=self._tell_loaded, name="loaded", daemon=True).start()
        # Before the server listens: a worker that is started anew refuses nobody whom another one would answer.
        while self._served.status == "loading" and self._others_have_loaded():
            metrics.READY.set(1)
            time.sleep(LOOK_SECONDS)
        metrics.follow(self._served)

    def _tell_loaded(self) -> None:
        """Leave a file in the shared folder once the model is loaded."""
        while self._served.status == "loading":
            time.sleep(LOOK_SECONDS)
        if self._served.loaded is not None:
            with suppress(OSError):  # of a full disk: others then do not wait
                (self._state / f"{LOADED}{os.getpid()}").touch()

    def _others_have_loaded(self) -> bool:
        others = [int(path.name.removeprefix(LOADED)) for path in self._state.glob(f"{LOADED}*")]
        return any(is_alive(process) for process in others)

    def drain(self) -> None:
        self._served.drain()
        if os.getppid() != self._launcher:  # which would have taken it away
            shutil.rmtree(self._state, ignore_errors=True)

    async def generate(self, **fields: Any) -> dict[str, Any]:
        """The answer to a call that came by BentoML's client and not by HTTP."""
        record = RequestRecord("", "POST", "/generate")
        context = RequestContext(self._served, self.app.state.shares, record)
        return await answer_prompt(GenerateRequest(**fields), context)

    def _count(self, record: RequestRecord) -> None:
        """Count a request that has ended, and trace it where that was asked for."""
        metrics.observe(record)
        trace = trace_of(record) if self._traces else None
        if self._traces and trace:
            self._traces.add(trace)
