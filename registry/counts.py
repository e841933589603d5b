"""Counts: numbers with their nouns, as messages and results say them."""


def counted(n: int, noun: str, plural: str = "") -> str:
    """Such as ``1 statement`` and ``1,600 statements``; a noun that does not end in ``s`` gives its ``plural``."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"
