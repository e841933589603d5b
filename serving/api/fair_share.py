"""Fair share: no client may take the queue from the others."""

import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, TypeVarTuple, Unpack

from anyio import CapacityLimiter, to_thread

from registry.counts import counted
from serving.api.errors import ApiError, ShareExceeded
from serving.engine.base import Engine, Generation
from serving.settings import Settings

THREADS = 8
"""Requests of one client that are being read at once: templates rendered, texts tokenised, schemas compiled."""

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")
Place = Generation | concurrent.futures.Future[Any]
"""What holds a place until it has ended: an answer, or texts that are read."""
Held = TypeVar("Held", Generation, concurrent.futures.Future[Any])


class FairShare:
    """Answers and readings in progress by client, in one worker.

    A client that holds more places than are free is refused until some of its answers have ended. So a lone client may
    use a little over half of the places, and whoever comes next still finds room. Slots are exempt: a client may always
    hold as many places as there are slots, because those requests do not wait.
    """

    def __init__(self) -> None:
        self._held: dict[str, list[Place]] = {}
        self._beginning: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._threads: dict[str, CapacityLimiter] = {}

    async def run(self, client: str, function: Callable[[Unpack[Arguments]], Result], *arguments: *Arguments) -> Result:
        """``function`` on a thread. A client's calls wait for its own threads, and hold none while they wait."""
        limiter = self._threads.setdefault(client, CapacityLimiter(THREADS))
        try:
            return await to_thread.run_sync(function, *arguments, limiter=limiter)
        finally:
            if not limiter.borrowed_tokens and not limiter.statistics().tasks_waiting:
                self._threads.pop(client, None)

    def submit(self, client: str, engine: Engine, submit: Callable[[], Sequence[Held]]) -> Sequence[Held]:
        """What ``submit`` begins for ``client``. Raises ``ShareExceeded``, and what ``submit`` does.

        Other clients do not wait for ``submit``, which may compile a schema.
        """
        with self._lock:
            self._held = {name: held for name, each in self._held.items() if (held := _running(each))}
            self._require_room(len(self._held.get(client, [])) + self._beginning[client], engine)
            self._beginning[client] += 1
        begun: Sequence[Held] = ()
        try:
            begun = submit()
        finally:
            with self._lock:
                self._beginning -= Counter({client: 1})  # which leaves out those at zero
                if begun:
                    self._held.setdefault(client, []).extend(begun)
        return begun

    def _require_room(self, held: int, engine: Engine) -> None:
        stats = engine.stats()
        free = stats.capacity + stats.queue_limit - stats.active - stats.queued
        if held > max(free, stats.capacity):
            raise ShareExceeded(
                f"this client holds {counted(held, 'place')} with {free} free for all; wait for its answers to end"
            )


def require_places(answers: int, settings: Settings, param: str) -> None:
    """Raise ``ApiError`` for more answers than there are places in all, which no second try would find."""
    places = settings.slots + settings.queue_limit
    if answers > places:
        raise ApiError(
            f"the request asks for {answers} answers at once, and the service has {counted(places, 'place')} "
            "(TRUSTTRACE_SLOTS and TRUSTTRACE_QUEUE_LIMIT); ask for fewer",
            param=param,
        )


def _running(places: Sequence[Place]) -> list[Place]:
    return [place for place in places if not _has_ended(place)]


def _has_ended(place: Place) -> bool:
    return place.done() if isinstance(place, concurrent.futures.Future) else place.outcome is not None
