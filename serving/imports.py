"""Imports of large libraries, in less time."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import without collecting garbage, and keep what was imported out of every later collection.

    Nothing that is imported is garbage, but to look through it takes a sixth of the time of the imports, and a third
    of a second whenever all of it is looked through later. Where nothing was left to import, garbage stays garbage.
    """
    collects, imported = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > imported:
            gc.freeze()
        if collects:
            gc.enable()
