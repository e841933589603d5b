"""Parallel map over pieces of small linear algebra, each on one core: small matrices do not fill several."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Protocol, TypeVar

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
U = TypeVar("U")
AT_ONCE = 4
"""At most so many pieces are in memory, however many cores there are, where nothing else is said."""


@lru_cache(maxsize=1)
def _libraries(_modules: int) -> ThreadpoolController:
    """Those of linear algebra, while so many modules are imported: to look for them takes milliseconds."""
    return ThreadpoolController()


class MapOnCores(Protocol):
    """``work`` of every piece, in their order, each on one core, and only a few ahead of what was taken."""

    def __call__(self, work: Callable[[T], U], pieces: Iterable[T]) -> Iterator[U]: ...


def map_on_cores(work: Callable[[T], U], pieces: Iterable[T], *, at_once: int = AT_ONCE) -> tuple[U, ...]:
    """``work`` of every piece, in their order, on as many cores as torch may use but at most ``at_once``.

    A piece has one core wherever it runs, so its result does not depend on how many there are. The first exception of
    a piece is raised when the pieces that had begun have ended.
    """
    with one_core_each(at_once=at_once) as on_cores:
        return tuple(on_cores(work, pieces))


@contextmanager
def one_core_each(*, at_once: int = AT_ONCE) -> Iterator[MapOnCores]:
    """``map_on_cores`` for many calls. While it is open, what this thread computes has one core too."""
    threads = torch.get_num_threads()
    cores = min(threads, at_once)
    torch.set_num_threads(1)
    try:
        one_thread = _libraries(len(sys.modules)).limit(limits=1)
        with one_thread, ThreadPoolExecutor(cores, thread_name_prefix="piece") as pool:

            def on_cores(work: Callable[[T], U], pieces: Iterable[T]) -> Iterator[U]:
                begun: deque[Future[U]] = deque()
                try:
                    for piece in pieces:
                        begun.append(pool.submit(work, piece))
                        if len(begun) > 2 * cores:
                            yield begun.popleft().result()
                    while begun:
                        yield begun.popleft().result()
                finally:
                    for future in begun:
                        future.cancel()

            yield on_cores
    finally:
        torch.set_num_threads(threads)
