"""Slow files: a version whose files did not come is not waited for at every look, so that others are followed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from registry.errors import Unavailable

Loaded = TypeVar("Loaded")

REST = 3.0
"""Times as long as a try took until the next: waiting takes a quarter of the time at most."""


@dataclass(frozen=True)
class _Failure:
    error: Unavailable
    again: float


class SlowFiles:
    """The versions whose files could not be had when they were last asked for. Belongs to one thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures: dict[str, _Failure] = {}

    def load(self, uri: str, work: Callable[[], Loaded]) -> Loaded:
        """What ``work`` returns. Raises as it does, and what it last raised while it is too early to try again."""
        began, failure = self._now(), self._failures.pop(uri, None)
        if failure is not None and began < failure.again:
            self._failures[uri] = failure
            raise failure.error
        try:
            return work()
        except Unavailable as error:
            ended = self._now()
            self._failures[uri] = _Failure(error, ended + REST * (ended - began))
            raise
