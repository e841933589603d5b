"""Parallel map over pieces of small linear algebra, each on one core: small matrices do not fill several."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

T = TypeVar("T")
U = TypeVar("U")
AT_ONCE = 4
"""At most so many pieces are in memory, however many cores there are."""


def map_on_cores(work: Callable[[T], U], pieces: Iterable[T]) -> tuple[U, ...]:
    """``work`` of every piece, in their order, on as many cores as torch may use but at most four.

    A piece has one core wherever it runs, so its result does not depend on how many there are. The first exception of
    a piece is raised when the pieces that had begun have ended.
    """
    cores = min(torch.get_num_threads(), AT_ONCE)
    with _one_core_each(), ThreadPoolExecutor(cores, thread_name_prefix="piece") as pool:
        return tuple(pool.map(work, pieces))


@contextmanager
def _one_core_each() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
