"""Perturbations that leave a text's meaning readable, for measuring robustness: seeded, and never a paraphrase."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import numpy as np

from registry.packages import MISSPELLINGS, fetch, read_member

Perturbation = Callable[[str, np.random.Generator], str]

KEYBOARD_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[A-Za-z]+")


def swap_words(text: str, rng: np.random.Generator, *, swaps: int = 2) -> str:
    """Exchange ``swaps`` disjoint pairs of neighbouring words, never the first or the last; fewer in a short text.

    Every word stays, so that a bag of words cannot tell.
    """
    words = text.split(" ")
    free = [index for index in range(1, len(words) - 2) if words[index] != words[index + 1]]
    for index in _disjoint(free, swaps, rng):
        words[index], words[index + 1] = words[index + 1], words[index]
    return " ".join(words)


def repeat_words(text: str, rng: np.random.Generator, *, repeats: int = 1) -> str:
    """Type ``repeats`` words of four letters or more twice in a row, as hurried typists do; fewer in a text without.

    No new word appears, so that neither words nor letters tell.
    """
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if re.fullmatch(r"[A-Za-z]{4,}", word)]
    for index in sorted(rng.permutation(long)[:repeats], reverse=True):
        words.insert(index, words[index])
    return " ".join(words)


def flip_case(text: str, rng: np.random.Generator, *, rate: float = 0.05) -> str:
    """Flip the case of letters with probability ``rate`` (arXiv 2402.19465 section 2.1 says 5 %)."""
    flips = rng.random(len(text)) < rate
    return "".join(letter.swapcase() if flip else letter for letter, flip in zip(text, flips, strict=True))


def keyboard_typos(text: str, rng: np.random.Generator, *, rate: float = 0.2) -> str:
    """In a share ``rate`` of the words of four letters or more, replace one inner letter by its keyboard neighbour."""

    def mistype(found: re.Match[str]) -> str:
        word = found.group()
        if len(word) < 4 or rng.random() >= rate:
            return word
        return _mistyped(word, rng)

    return _WORD.sub(mistype, text)


def mistype_last_word(text: str, rng: np.random.Generator) -> str:
    """Replace one inner letter of the last word by its keyboard neighbour; a word of three letters or fewer is left."""
    words = list(_WORD.finditer(text))
    if not words or len(words[-1].group()) < 4:
        return text
    last = words[-1]
    return text[: last.start()] + _mistyped(last.group(), rng) + text[last.end() :]


def misspell(text: str, rng: np.random.Generator, *, rate: float = 0.3) -> str:
    """Replace a share ``rate`` of the words that people are known to misspell by such a misspelling."""
    known = misspellings()

    def replace(found: re.Match[str]) -> str:
        word = found.group()
        choices = known.get(word.lower())
        if choices is None or rng.random() >= rate:
            return word
        chosen = choices[int(rng.integers(len(choices)))]
        return chosen.capitalize() if word[0].isupper() else chosen

    return _WORD.sub(replace, text)


@cache
def misspellings() -> Mapping[str, tuple[str, ...]]:
    """From a word to its misspellings, real-word slips among them, for words of four letters or more."""
    found: dict[str, dict[str, None]] = {}
    for line in read_member(fetch(MISSPELLINGS), "res/word/spelling/spelling_en.txt").decode().splitlines():
        word, *others = line.lower().split() or [""]
        if word.isalpha() and len(word) >= 4:
            kept = (one for one in others if one.isascii() and one.isalpha() and one != word)
            found.setdefault(word, {}).update(dict.fromkeys(kept))
    return MappingProxyType({word: tuple(others) for word, others in found.items() if others})


def transpose_letters(text: str, rng: np.random.Generator, *, rate: float = 0.15) -> str:
    """In a share ``rate`` of the words of four letters or more, exchange two neighbouring inner letters."""

    def transpose(found: re.Match[str]) -> str:
        word = found.group()
        if len(word) < 4 or rng.random() >= rate:
            return word
        place = int(rng.integers(1, len(word) - 2))
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]

    return _WORD.sub(transpose, text)


PERTURBATIONS: Mapping[str, Perturbation] = MappingProxyType(
    {
        "word-swaps": swap_words,
        "word-repetitions": repeat_words,
        "case-flips": flip_case,
        "last-word-typos": mistype_last_word,
        "keyboard-typos": keyboard_typos,
        "misspellings": misspell,
        "letter-transpositions": transpose_letters,
    }
)


def _mistyped(word: str, rng: np.random.Generator) -> str:
    place = int(rng.integers(1, len(word) - 1))
    near = _neighbours(word[place].lower())
    return word[:place] + near[int(rng.integers(len(near)))] + word[place + 1 :]


def _disjoint(places: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """Up to ``count`` of ``places``, no two of them neighbours."""
    chosen: list[int] = []
    for place in rng.permutation(places):
        if len(chosen) == count:
            break
        if all(abs(int(place) - other) > 1 for other in chosen):
            chosen.append(int(place))
    return chosen


def _neighbours(letter: str) -> str:
    row = next(row for row in KEYBOARD_ROWS if letter in row)
    place = row.index(letter)
    return row[max(0, place - 1) : place] + row[place + 1 : place + 2]
