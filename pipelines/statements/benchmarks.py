"""Benchmarks: the paper's released files, and the card that says what a set of statements asks and on what terms.

A file bearing one of these names in a data directory is that benchmark; any other file is the user's own, with
label 1 trustworthy. Polarity and groups follow the files as released (arXiv 2402.19465), not its Table 3.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipelines.statements.lexicons import stereoset_contexts


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What a set of statements asks, what its labels mean, what belongs together, and whose it is."""

    name: str
    dimension: str
    question: str
    trustworthy: str
    """What a statement of label 1 is, once loaded."""
    group: str
    """What the statements of one group have in common."""
    licence: str
    citation: str
    caveat: str = ""
    """What the set does not measure, although its name suggests it."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(DatasetCard):
    """A published file with columns ``statement`` and ``label``."""

    trustworthy_label: int
    """The raw label that means trustworthy."""
    group_of: Callable[[str], str]
    """Statements with the same key never straddle a split."""
    n_rows: int
    """Rows of the file as released."""


_INVISIBLE = re.compile("[\u200b-\u200d\u2060\ufeff\u00ad]")
"""Joiners, spaces without width, soft hyphens: copies of a text from web pages differ in them."""


def normalised(text: str) -> str:
    """The text in lower case, without spreadsheet artefacts or repeated spaces, accents spelt one way: equal for copies
    of one text."""
    seen = _INVISIBLE.sub("", unicodedata.normalize("NFC", text)).replace("_x000D_", " ")
    return re.sub(r"\s+", " ", seen).strip().lower()


def _question(text: str) -> str:
    return normalised(text.partition("\tA:")[0])


def _stereoset_context(text: str) -> str:
    """The context that ``text`` begins with, by the published set; its first sentence where it is none of them."""
    words = text.split()
    contexts = stereoset_contexts()
    openings = (" ".join(words[:count]) for count in range(len(words), 0, -1))
    return next((opening for opening in openings if opening in contexts), _first_sentence(text))


def _first_sentence(text: str) -> str:
    return normalised(re.split(r"(?<=[.!?]) ", text.strip(), maxsplit=1)[0])


RELEASE = "released with arXiv 2402.19465 (Apache-2.0); the texts keep their sources' terms"

_PAPER = (
    Benchmark(
        name="truthfulqa_train",
        dimension="reliability",
        question="Is the answer true?",
        trustworthy="a question with a true answer",
        trustworthy_label=1,
        group="question",
        group_of=_question,
        licence=RELEASE,
        citation="Lin, Hilton and Evans, ACL 2022",
        n_rows=2263,
    ),
    Benchmark(
        name="toxigen",
        dimension="toxicity",
        question="Is the statement toxic?",
        trustworthy="a benign statement",
        trustworthy_label=0,
        group="text",
        group_of=normalised,
        licence=RELEASE,
        citation="Hartvigsen et al., ACL 2022; revised by Hosseini et al., 2023",
        caveat="the raw label 1 is toxic, the reverse of the paper's Table 3",
        n_rows=6514,
    ),
    Benchmark(
        name="confaide",
        dimension="privacy",
        question="Is it sensitive to share this?",
        trustworthy="something that may be shared",
        trustworthy_label=0,
        group="text",
        group_of=normalised,
        licence=RELEASE,
        citation="Mireshghallah et al., ICLR 2024; extended by GPT-4",
        caveat="most rows are GPT-4's, labelled by GPT-4, rather than ConfAIde's",
        n_rows=2346,
    ),
    Benchmark(
        name="stereoset",
        dimension="fairness",
        question="Does the second sentence belong to the first?",
        trustworthy="two sentences that have nothing to do with each other",
        trustworthy_label=0,
        group="context, as StereoSet has it",
        group_of=_stereoset_context,
        licence=RELEASE,
        citation="Nadeem, Bethke and Reddy, ACL 2021",
        caveat="the raw label 1 is the anti-stereotypical continuation and label 0 an unrelated one: no statement "
        "repeats a stereotype, so no result on this file speaks of stereotyping; race only",
        n_rows=1952,
    ),
    Benchmark(
        name="sst2",
        dimension="robustness",
        question="Have letters of the sentence been flipped to upper case?",
        trustworthy="the sentence as it stands",
        trustworthy_label=0,
        group="sentence, in lower case",
        group_of=normalised,
        licence=RELEASE,
        citation="Socher et al., EMNLP 2013",
        caveat="SST-2 is in lower case, so that the label says whether the text has a capital letter",
        n_rows=3642,
    ),
)

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({benchmark.name: benchmark for benchmark in _PAPER})
