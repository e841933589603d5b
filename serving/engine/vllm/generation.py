"""Generation that vLLM runs, on an event loop of the engine's."""

import asyncio
from contextlib import suppress

from serving.engine.base import Generation, GenerationRequest
from serving.engine.grammar import Grammar


class VllmGeneration(Generation):
    """A generation whose end need not wait for its next token: ``cancel`` reaches the engine's loop at once."""

    def __init__(
        self, request: GenerationRequest, loop: asyncio.AbstractEventLoop, grammar: Grammar | None = None
    ) -> None:
        super().__init__(request)
        self.grammar = grammar
        self._loop = loop
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        super().cancel()
        with suppress(RuntimeError):  # the loop is closed, and with it every request has ended
            self._loop.call_soon_threadsafe(self._cancel_task)

    def _cancel_task(self) -> None:
        if self.task is not None:
            self.task.cancel()
