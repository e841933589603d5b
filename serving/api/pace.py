"""Pace: how fast the requests of one client are taken up while those of others are under way.

Whatever comes of it, reading a request takes the event loop and the interpreter, through which everybody's answers go.
A client that is alone is never held up.
"""

import time
from collections import Counter
from collections.abc import Callable

from serving.api.errors import ShareExceeded

BURST_SECONDS = 2.0
"""So many seconds' requests are taken up at once."""
BYTES = 16_384
"""So many bytes of a body count as one request more."""
REFUSED = 3
"""So many more does one that is refused count as, or that never came whole: its client does not read the answers."""
LONGEST = 5.0
"""Seconds that a request waits at most; one that would wait longer is refused."""


class Pace:
    """Of one worker; every method belongs to its event loop. ``rate`` is in requests per second, 0 for no limit."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._under_way: Counter[str] = Counter()
        self._due: dict[str, float] = {}
        """When the next request of a client would come, were its requests evenly spaced."""

    def begin(self, client: str) -> float:
        """Count one more request under way; the seconds that it has to wait. Raises ``ShareExceeded``."""
        now = self._clock()
        self._due = {name: due for name, due in self._due.items() if due > now}
        wait = 0.0
        if self._is_paced(client):
            wait = self._due.get(client, now) - now - BURST_SECONDS
            if wait > LONGEST:
                raise ShareExceeded(
                    f"this client sends more requests than the {self._rate:g} a second that one may send while others' "
                    "are under way (TRUSTTRACE_PACE); wait, or send several prompts in one request"
                )
        self._count(client, 1)
        self._under_way[client] += 1
        return max(0.0, wait)

    def arrived(self, client: str, size: int) -> None:
        """So many bytes of a body have come: the client's next requests wait for them too."""
        self._count(client, size / BYTES)

    def end(self, client: str, *, refused: bool = False) -> None:
        """A request of the client has ended."""
        if refused:
            self._count(client, REFUSED)
        self._under_way -= Counter({client: 1})  # which leaves out those at zero

    def _is_paced(self, client: str) -> bool:
        """Whether there is a rate, and others are under way."""
        return bool(self._rate and self._under_way.keys() - {client})

    def _count(self, client: str, requests: float) -> None:
        if self._is_paced(client):
            self._due[client] = max(self._clock(), self._due.get(client, 0.0)) + requests / self._rate
