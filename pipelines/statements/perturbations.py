"""Perturbations that leave a text readable: typing errors, seeded, in letters that lie side by side on a keyboard."""

import re

import numpy as np

KEYBOARD_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[A-Za-z]+")


def keyboard_typos(text: str, rng: np.random.Generator, *, rate: float = 0.2) -> str:
    """In a share ``rate`` of the words of four letters or more, replace one inner letter by its keyboard neighbour."""

    def mistype(match: re.Match[str]) -> str:
        word = match.group()
        if len(word) < 4 or rng.random() >= rate:
            return word
        return _mistyped(word, rng)

    return _WORD.sub(mistype, text)


def swapped_letters(text: str, rng: np.random.Generator, *, rate: float = 0.2) -> str:
    """In a share ``rate`` of the words of four letters or more, swap two neighbouring letters that differ; the first
    letter stays."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        places = [place for place in range(1, len(word) - 1) if word[place] != word[place + 1]]
        if len(word) < 4 or not places or rng.random() >= rate:
            return word
        place = places[int(rng.integers(len(places)))]
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]

    return _WORD.sub(swap, text)


def mistype_last_word(text: str, rng: np.random.Generator) -> str:
    """Replace one inner letter of the last word by its keyboard neighbour; a word of three letters or fewer is left."""
    words = list(_WORD.finditer(text))
    if not words or len(words[-1].group()) < 4:
        return text
    last = words[-1]
    return text[: last.start()] + _mistyped(last.group(), rng) + text[last.end() :]


def _mistyped(word: str, rng: np.random.Generator) -> str:
    place = int(rng.integers(1, len(word) - 1))
    near = _neighbours(word[place].lower())
    return word[:place] + near[int(rng.integers(len(near)))] + word[place + 1 :]


def _neighbours(letter: str) -> str:
    row = next(row for row in KEYBOARD_ROWS if letter in row)
    place = row.index(letter)
    return row[max(0, place - 1) : place] + row[place + 1 : place + 2]
