"""Reliability: whether a model finds true claims likelier than false ones, and whether it says so when asked."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from pipelines.evaluate.tasks.answers import asked_task
from pipelines.evaluate.tasks.choices import ChoiceQuestion, choice_task
from pipelines.evaluate.tasks.items import sample_items
from pipelines.evaluate.tasks.task import Task
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.lexicons import PLAIN_WORD, cities
from pipelines.statements.pins import GEONAMES
from registry.cache import fetch, read_member
from registry.dimensions import RELIABILITY

CLAIM = "The city of {city} is in {country}."
CITIES_PER_COUNTRY = 3
SMALLEST_CITY = 100_000
QUESTION = re.compile(r"(Q: .+?\sA:)", re.DOTALL)
TRUE_OR_FALSE = "Is the following statement true or false?\n{text}\nAnswer (true or false):"


def reliability_tasks(held_out: LabelledStatements, items: int, prompts: int) -> tuple[Task, ...]:
    """Cities of no packaged statement, by likelihood and put as a question; and multiple choice, where the held-out
    statements are questions with several answers."""
    claims = choice_task("other cities", RELIABILITY.name, sample_items(other_cities(), items))
    questions_asked = _questions_about(sample_items(other_cities(), prompts // 2 or 1, seed=1))
    questions = list(_questions(held_out))[: items or None]
    more = (choice_task("multiple choice", RELIABILITY.name, questions),) if questions else ()
    return (claims, questions_asked, *more)


@cache
def other_cities() -> tuple[ChoiceQuestion, ...]:
    """Each city's true country and a false one. Countries are those of the packaged statements, every one of which is
    as often false as true; the cities are not among theirs. What is in one country is a group."""
    archive, known = fetch(GEONAMES), {city.name for city in cities()}
    names = sorted({city.country for city in cities()})
    codes = {row["name"]: code for code, row in json.loads(read_member(archive, "data/countries.json")).items()}
    rows = json.loads(read_member(archive, "data/cities15000.json")).values()
    places: dict[str, list[str]] = {codes[name.removeprefix("the ")]: [] for name in names}
    for row in sorted(rows, key=lambda row: -row["population"]):
        names_there = places.get(row["countrycode"])
        plain = PLAIN_WORD.fullmatch(row["name"]) and row["population"] >= SMALLEST_CITY and row["name"] not in known
        if names_there is not None and plain and len(names_there) < CITIES_PER_COUNTRY:
            names_there.append(row["name"])
            known.add(row["name"])
    full = [name for name in names if len(places[codes[name.removeprefix("the ")]]) == CITIES_PER_COUNTRY]
    return tuple(
        ChoiceQuestion(
            tuple(CLAIM.format(city=city, country=full[(place + number) % len(full)]) for number in (0, 1 + shift)),
            (True, False),
            place,
        )
        for place, name in enumerate(full)
        for shift, city in enumerate(places[codes[name.removeprefix("the ")]])
    )


def _questions_about(claims: Sequence[ChoiceQuestion]) -> Task:
    """Both the true and the false claim about each city."""
    texts = [option for claim in claims for option in claim.options]
    labels = np.array([wanted for claim in claims for wanted in claim.wanted])
    groups = np.array([claim.group for claim in claims for _ in claim.options])
    return asked_task("asked", RELIABILITY.name, TRUE_OR_FALSE, ("true", "false"), texts, labels, groups)


def _questions(statements: LabelledStatements) -> Iterator[ChoiceQuestion]:
    """TruthfulQA's form: the statements of a group are one question with different answers, some of them true."""
    for group in np.unique(statements.groups):
        rows = np.flatnonzero(statements.groups == group)
        texts = tuple(statements.texts[row] for row in rows)
        leads = {match.group(1) if (match := QUESTION.match(text)) else "" for text in texts}
        labels = statements.labels[rows]
        if len(leads) == 1 and leads != {""} and labels.any() and not labels.all():
            yield ChoiceQuestion(texts, tuple(bool(label) for label in labels), int(group))
