"""Imports of large libraries, in less time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import without collecting garbage, and keep what was imported out of every later collection.

    Nothing that is imported is garbage, but to look through it takes a sixth of the time of the imports, and a third
    of a second whenever all of it is looked through later.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
