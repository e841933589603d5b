"""Lasting objects: those that live as long as the process, which looking for garbage passes over."""

import gc
from functools import cache


@cache
def pass_over_lasting_objects(*, once_collected: bool = False) -> None:
    """Look no more at the objects that are there at the first call, what is garbage by then among them, unless that is
    collected first.

    Imports leave half a million. Python looks at all objects for cycles each time that new ones are a quarter of them,
    and whenever a model is released: up to half a second in which no other thread runs.
    """
    if once_collected:
        gc.collect()
    gc.freeze()
