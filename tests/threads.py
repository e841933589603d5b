"""Threads of torch for a while, whatever the machine has."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_passing(make: Callable[[], T]) -> T:
    """What ``make`` gives, made by a thread that ends: threads that a living one has beside it would keep those of an
    engine from spinning.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()
