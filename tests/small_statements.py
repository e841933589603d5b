"""Statements in pairs that one word mostly decides, of words that the small tokenizer knows."""

from pathlib import Path

import numpy as np
import pandas as pd

FILLERS = ("the", "city", "of", "is", "in", "you", "are", "a", "letter")
WORDS = {"toxicity": ("kind", "cruel"), "privacy": ("Paris", "Peru")}
"""The trustworthy word and the other."""


def write_statements(
    directory: Path, dimension: str = "toxicity", openings: int = 40, rng: np.random.Generator | None = None
) -> Path:
    """A file called after its dimension, with each opening once with either word; at most so many openings.

    Every eighth pair has the labels exchanged: where the words alone decide, no vector becomes champion.
    """
    generator = rng or np.random.default_rng(0)
    directory.mkdir(exist_ok=True)
    different = sorted({" ".join(generator.choice(FILLERS, 4)) for _ in range(openings)})
    good, bad = WORDS[dimension]
    rows = [
        (f"{opening} {word}", int(is_good != (number % 8 == 7)), opening)
        for number, opening in enumerate(different)
        for word, is_good in ((good, True), (bad, False))
    ]
    path = directory / f"{dimension}.csv"
    pd.DataFrame(rows, columns=["statement", "label", "group"]).to_csv(path, index=False)
    return path


def write_two_dimensions(directory: Path, openings: int = 40) -> Path:
    """The directory, with a file for toxicity and one for privacy."""
    rng = np.random.default_rng(0)
    for dimension in WORDS:
        write_statements(directory, dimension, openings, rng)
    return directory
