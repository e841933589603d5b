"""Lasting objects: those that live as long as the process, which looking for garbage passes over."""

import gc
from functools import cache


@cache
def pass_over_lasting_objects() -> None:
    """Look no more at the objects that are there at the first call.

    Imports leave half a million. Python looks at all objects for cycles each time that new ones are a quarter of them,
    and whenever a model is released: up to half a second in which no other thread runs.
    """
    gc.freeze()
