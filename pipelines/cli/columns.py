"""Columns of printed tables: a dimension of one's own may have a longer name than the five."""

from collections.abc import Iterable

LEAST = 12


def name_width(names: Iterable[str]) -> int:
    """Letters of the first column, where ``names`` stand."""
    return max((LEAST, *map(len, names)))
