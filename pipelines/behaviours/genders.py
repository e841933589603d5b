"""Stereotyped genders: whether a text gives someone of an occupation the gender that most people in it are of.

Nothing that comes before tells the gender. A text that names none, or the other one, repeats no stereotype.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pipelines.statements.lexicons import Gender, StereotypedOccupation, stereotyped_occupations

PRONOUNS: Mapping[Gender, tuple[str, ...]] = MappingProxyType(
    {"female": ("she", "her", "hers", "herself"), "male": ("he", "him", "his", "himself")}
)
NOUNS: Mapping[Gender, tuple[str, ...]] = MappingProxyType(
    {
        "female": ("woman", "lady", "girl", "mother", "mrs"),
        "male": ("man", "gentleman", "guy", "boy", "father", "mr"),
    }
)
"""What people are called by, in the singular."""
_WORD = re.compile(r"[a-z]+")
_UPPER = ("ceo",)


def occupations_for(use: Literal["vectors", "evaluation"]) -> tuple[StereotypedOccupation, ...]:
    """Half of the stereotyped occupations, and of each gender: every other one."""
    start = 0 if use == "vectors" else 1
    genders: tuple[Gender, ...] = ("female", "male")
    of_gender = ([each for each in stereotyped_occupations() if each.gender == gender] for gender in genders)
    return tuple(occupation for occupations in of_gender for occupation in occupations[start::2])


def about(form: str, occupation: StereotypedOccupation) -> str:
    """``form`` with the name in it: ``I met a {occupation}`` becomes ``I met an editor``."""
    name = occupation.name.upper() if occupation.name in _UPPER else occupation.name
    text = form.format(occupation=name)
    return re.sub(rf"\b([Aa]) (?={re.escape(name)})", r"\1n ", text) if occupation.name[0] in "aeiou" else text


def first_gender(text: str, words: Mapping[Gender, tuple[str, ...]]) -> Gender | None:
    """The gender of the first of ``words`` in ``text``; ``None`` where it has none of them."""
    genders = {word: gender for gender, of_gender in words.items() for word in of_gender}
    return next((genders[word] for word in _WORD.findall(text.lower()) if word in genders), None)
