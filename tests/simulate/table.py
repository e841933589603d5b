"""The table of simulations: what was simulated, what came out, and what it must be."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Row:
    topic: str
    quantity: str
    setting: str
    result: str
    required: str


def header() -> str:
    return "| topic | what | setting | measured | required |\n|---|---|---|---|---|"


def render(rows: Iterable[Row]) -> Iterable[str]:
    return ("| " + " | ".join(astuple(row)) + " |" for row in rows)
