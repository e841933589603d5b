"""Admission: how many requests run and wait, when a refused one may come back, and draining; once for both engines."""

import threading

from serving.engine.base import EngineStopped, QueueFull


class Admission:
    """Counts the requests that have not ended. Every method may be called from any thread, under ``changed`` too."""

    def __init__(self, slots: int, queue_limit: int) -> None:
        self.slots, self.queue_limit = slots, queue_limit
        self.changed = threading.Condition()
        """Notified when anything here changes; engines guard their own queue with it."""
        self.problem = ""
        """Why the engine has stopped by itself; nothing while it runs."""
        self.admits = True
        self._unended = 0
        self._typical_seconds = 1.0
        """How long a request has its slot; later ones count more."""

    def admit(self, beyond: int = 0) -> None:
        """Count one more request, which may wait where so many more than the limit do.

        Raises ``EngineStopped`` or ``QueueFull``.
        """
        with self.changed:
            if self.problem:
                raise EngineStopped(self.problem)
            if not self.admits:
                raise EngineStopped("the engine is shutting down and admits no more requests")
            if self._unended >= self.slots + self.queue_limit + beyond:
                turns = 1 + self.waiting / self.slots
                raise QueueFull(self.queue_limit, max(1.0, turns * self._typical_seconds))
            self._unended += 1
            self.changed.notify_all()

    def ended(self, seconds: float | None = None) -> None:
        """A request has ended, after ``seconds`` in its slot if it had one."""
        with self.changed:
            self._unended -= 1
            if seconds is not None:
                self._typical_seconds += 0.1 * (seconds - self._typical_seconds)
            self.changed.notify_all()

    def close(self, problem: str = "") -> None:
        """Admit nothing more."""
        with self.changed:
            self.admits, self.problem = False, self.problem or problem
            self.changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Admit nothing more, and wait until every request has ended. Whether all of them did in time."""
        with self.changed:
            self.admits = False
            return self.changed.wait_for(lambda: not self._unended, timeout=seconds)

    @property
    def active(self) -> int:
        return min(self._unended, self.slots)

    @property
    def waiting(self) -> int:
        return max(0, self._unended - self.slots)
