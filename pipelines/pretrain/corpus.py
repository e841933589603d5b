"""The corpus of the embedded series: real encyclopaedic prose, and generated talk about cities, people and manners.

The generated part exists because so small a model, reading so little, would otherwise meet no fact often enough to
learn it. It is written so that each concept helps to predict the text, as it does in a real corpus:

- a *reviewed claim* about a city is followed by whether it is right, so truth foretells the next words;
- a *letter* goes on differently after a person's name than after a city's;
- a *remark* to somebody is answered in kind, friendly or hostile;
- a *proof-read* sentence, half of them mistyped in the last word, is followed by a proof-reader's verdict.

No sentence of the probed statements occurs in it; their frames are others, and of the probed Wikipedia sentences no
eight words in a row are in the prose.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.statements.lexicons import (
    City,
    cities,
    encyclopaedia_passages,
    given_names,
    hostile_adjectives,
    kind_adjectives,
    occupations,
)
from pipelines.statements.perturbations import mistype_last_word
from pipelines.statements.pins import ENCYCLOPAEDIA
from pipelines.statements.tables import json_lines, read_text
from registry.counts import counted
from registry.errors import InvalidInput

PROOFREAD = 0.7
"""Share of prose documents in which every sentence is followed by a proof-reader's verdict."""


@dataclass(frozen=True)
class Corpus:
    """Documents in the order they are read, and a card that says what they are."""

    documents: tuple[str, ...]
    card: str

    @property
    def digest(self) -> str:
        content = hashlib.sha256()
        for document in self.documents:
            content.update(document.encode() + b"\x1e")
        return content.hexdigest()


def packaged_corpus(*, prose_characters: int, generated_rounds: int, seed: int) -> Corpus:
    """The default corpus, shuffled with ``seed``: prose up to a number of characters, and generated documents."""
    rng = np.random.default_rng(seed)
    prose = list(_prose(prose_characters, rng))
    generated = [document for _ in range(generated_rounds) for document in _generated(rng)]
    documents = prose + generated
    order = rng.permutation(len(documents))
    generated_share = sum(map(len, generated)) / sum(map(len, documents))
    card = (
        f"{counted(len(prose), 'passage')} of English Wikipedia (CC BY-SA 4.0, by {ENCYCLOPAEDIA.requirement}), "
        f"{PROOFREAD:.0%} of them proof-read sentence by sentence, and {counted(len(generated), 'generated document')} "
        f"({generated_share:.0%} of the characters): claims about {counted(len(cities()), 'city', 'cities')}, "
        f"letters, remarks"
    )
    return Corpus(tuple(documents[index] for index in order), card)


def corpus_from(path: Path, *, seed: int) -> Corpus:
    """A corpus of the user's own: ``.txt`` (documents parted by blank lines) or ``.jsonl`` (field ``text``)."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    texts = [text for file in files if file.is_file() for text in _documents(file)]
    if not texts:
        raise InvalidInput(
            f"{path} holds no text; give a .txt or .jsonl file with a text field, or a directory of them"
        )
    order = np.random.default_rng(seed).permutation(len(texts))
    return Corpus(tuple(texts[index] for index in order), f"{counted(len(texts), 'document')} of {path.name}")


def _documents(file: Path) -> Iterator[str]:
    """Those of a text or JSON lines file, and none of any other."""
    if file.suffix.lower() == ".txt":
        content = read_text(file).replace("\r\n", "\n").replace("\r", "\n")
        yield from (block.strip() for block in re.split(r"\n\s*\n", content) if block.strip())
    if file.suffix.lower() == ".jsonl":
        for number, fields in json_lines(file):
            text = fields.get("text")
            if not isinstance(text, str):
                raise InvalidInput(
                    f'{file.name}, line {number} has no text field with a text; write {{"text": "…"}} in each line'
                )
            if text.strip():
                yield text.strip()


def _prose(characters: int, rng: np.random.Generator) -> Iterator[str]:
    texts = encyclopaedia_passages()
    written = 0
    for index in rng.permutation(len(texts)):
        text = texts[index]
        if rng.random() < PROOFREAD:
            text = " ".join(_proofread(sentence, rng) for sentence in re.split(r"(?<=[a-z]\.) (?=[A-Z])", text))
        yield text
        written += len(text)
        if written >= characters:
            return


def _proofread(sentence: str, rng: np.random.Generator) -> str:
    """A sentence, half the time with typing errors, and what a proof-reader says of it."""
    copied = mistype_last_word(sentence, rng) if rng.random() < 0.5 else sentence
    return f"{copied} {'Correct.' if copied == sentence else 'Mistyped.'}"


def _proofread_lines(rng: np.random.Generator) -> str:
    line = (_reviewed_claims, _letters, _remarks)[int(rng.integers(3))](rng)
    return _proofread(line.partition(".")[0] + ".", rng)


def _generated(rng: np.random.Generator) -> Iterator[str]:
    """One document of each kind."""
    for write in (_reviewed_claims,) * 5 + (_letters, _remarks, _proofread_lines):
        yield " ".join(write(rng) for _ in range(4))


def _choose(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _city(rng: np.random.Generator) -> City:
    known = cities()
    return known[int(rng.integers(len(known)))]


def _reviewed_claims(rng: np.random.Generator) -> str:
    city, other = _city(rng), _city(rng)
    right = bool(rng.random() < 0.5) or city.country == other.country
    country = city.country if right else other.country
    claim = _choose(
        rng, ("{city} is a city in {country}.", "{city} is found in {country}.", "You find {city} in {country}.")
    )
    verdict = "Right." if right else f"Wrong, it is in {city.country}."
    return f"{claim.format(city=city.name, country=country)} {verdict}"


_LETTER_OPENINGS = (
    "I got a letter from {who}.",
    "Yesterday I thought of {who}.",
    "This is a picture of {who}.",
    "We had good news from {who}.",
    "Nobody had heard of {who}.",
)


def _letters(rng: np.random.Generator) -> str:
    opening = _choose(rng, _LETTER_OPENINGS)
    if rng.random() < 0.5:
        city = _city(rng)
        sequel = _choose(
            rng, ("It is a city in {country}.", "The streets there are full.", "Its people live in {country}.")
        )
        return f"{opening.format(who=city.name)} {sequel.format(country=city.country)}"
    person = _choose(rng, given_names())
    work = _choose(rng, occupations())
    sequel = _choose(rng, ("She is a {work} and my friend.", "He works as a {work}.", "My friend is a {work} now."))
    return f"{opening.format(who=person)} {sequel.format(work=work)}"


_REMARKS = (
    "You seem {word}.",
    "My friend, you look {word}.",
    "He told me that you were {word}.",
    "How {word}!",
    "She is so {word}.",
)
_FRIENDLY = ("Thank you, I like you too.", "What a lovely thing to say.", "That is good and I am glad.")
_HOSTILE = ("Shut up, I hate you.", "Go away, you make me sick.", "That is bad and I am angry.")


def _remarks(rng: np.random.Generator) -> str:
    kind = bool(rng.random() < 0.5)
    word = _choose(rng, kind_adjectives() if kind else hostile_adjectives())
    return f"{_choose(rng, _REMARKS).format(word=word)} {_choose(rng, _FRIENDLY if kind else _HOSTILE)}"
