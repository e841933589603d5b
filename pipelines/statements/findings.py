"""Findings: a quality report in sentences, on what forbids a probe, what misleads one, and what it must beat."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from pipelines.statements.files import OPTIONAL
from pipelines.statements.floors import CHARACTERS, WORDS
from pipelines.statements.quality import N_FOLDS, QualityReport
from registry.counts import counted

Severity = Literal["refused", "warning", "note"]

TELLING_AUROC = 0.6
"""A count alone that separates the classes this well, or as far the other way, is worth a warning."""
TELLING_MARGIN = 0.1
"""So far above always giving the more frequent label, counts or the last word make a probe's accuracy cheap."""
FEW_GROUPS = 30
UNBALANCED = 0.6
LEAKAGE = 0.01
COUNTED = {"length": "characters", "words": "words", "capitals": "capitals", "punctuation": "punctuation marks"}


@dataclass(frozen=True)
class Finding:
    """One sentence on a set of statements."""

    severity: Severity
    sentence: str


def findings(report: QualityReport) -> tuple[Finding, ...]:
    """What a user should know, the gravest first."""
    order = ("refused", "warning", "note")
    giveaways = _lexical(report) if report.is_lexical else _giveaways(report)
    unsorted = [*_faults(report), *_leaks(report), *giveaways, *_notes(report)]
    return tuple(sorted(unsorted, key=lambda finding: order.index(finding.severity)))


def _faults(report: QualityReport) -> Iterator[Finding]:
    dropped = report.conflicts == "drop"
    if report.n_trustworthy in (0, report.n):
        yield Finding("refused", f"all statements (n = {report.n}) have one label; a probe needs both")
    for part in report.one_class:
        yield Finding("refused", f"the {part} part of the split column holds one class only; both are needed in each")
    if report.n_groups < N_FOLDS:
        yield Finding(
            "refused", f"{counted(report.n_groups, 'group')} cannot be split into {N_FOLDS} folds; give more groups"
        )
    elif report.n_groups < FEW_GROUPS:
        yield Finding("warning", f"there are {counted(report.n_groups, 'group')} only, so that every interval is wide")
    if report.conflicting and dropped:
        yield Finding("warning", f"texts that carry both labels: {report.conflicting}, which are dropped")
    elif report.conflicting:
        yield Finding(
            "refused", f"texts that carry both labels: {report.conflicting}; decide on one each, or remove them"
        )
    if report.duplicates:
        ending = "of which the first is kept" if dropped else "which stay in one group and all count"
        yield Finding("warning", f"rows that repeat an earlier text: {report.duplicates}, {ending}")
    if report.artefacts:
        yield Finding("warning", f"rows with a spreadsheet's _x000D_: {report.artefacts}, which a probe may read")
    if report.majority > UNBALANCED:
        yield Finding("warning", f"one label has {report.majority:.0%} of the rows: compare accuracies with that")
    if report.card.caveat:
        yield Finding("warning", report.card.caveat)


def _leaks(report: QualityReport) -> Iterator[Finding]:
    if report.split_leakage:
        yield Finding(
            "refused",
            f"the split column leaks: {report.split_leakage:.1%} of its test rows have a row of their group in train",
        )
    if report.sequential_leakage and report.sequential_leakage > LEAKAGE:
        yield Finding(
            "warning",
            f"cut in file order, as protocol=paper does, {report.sequential_leakage:.1%} of the test rows have a row "
            "of their group in train; group folds have none",
        )


def _lexical(report: QualityReport) -> Iterator[Finding]:
    """The one conclusion where the text alone decides the label."""
    grouped = report.floors["grouped"]
    best = max(grouped, key=lambda name: grouped[name].value)
    yield Finding(
        "warning",
        f"the text alone decides the label: {report.seen[best]} has accuracy {grouped[best]}, so a probe shows nothing "
        "about a model and its vectors do not become champions; write minimal pairs, texts that differ in as little as "
        "turns the label, with each word under both labels",
    )


def _giveaways(report: QualityReport) -> Iterator[Finding]:
    for name, auroc in report.aurocs.items():
        if auroc.low > TELLING_AUROC or auroc.high < 1 - TELLING_AUROC:
            comparison = "more" if auroc.value > 0.5 else "fewer"
            yield Finding("warning", f"trustworthy statements have {comparison} {COUNTED[name]} (AUROC {auroc})")
    grouped = report.floors.get("grouped", {})
    for name in ("last_word", "surface"):
        if name in grouped and grouped[name].low > report.majority + TELLING_MARGIN:
            yield Finding("warning", f"accuracy {grouped[name]} from {report.seen[name]}")
    if grouped:
        best = max(grouped, key=lambda name: grouped[name].value)
        if grouped[best].value > report.majority:
            yield Finding("note", f"a probe must beat {grouped[best]}, from {report.seen[best]}")
        else:
            yield Finding("note", f"a probe must beat {report.majority:.3f}, from always giving the commoner label")


def _notes(report: QualityReport) -> Iterator[Finding]:
    for name, usual in (("ngram_word", WORDS[0].name), ("ngram_char", CHARACTERS[0].name)):
        if report.seen[name] != usual:
            yield Finding("note", f"the statements share few terms, so this floor is {report.seen[name]}")
    for column in report.unread_columns:
        near = get_close_matches(column, OPTIONAL, n=1, cutoff=0.7)
        if near:
            yield Finding("warning", f"column {column!r} is not read; did you mean {near[0]!r}?")
    if report.unread_columns:
        yield Finding(
            "note",
            f"columns that are not read: {', '.join(report.unread_columns)}; those that are: statement, or prompt and "
            f"response; label; {', '.join(OPTIONAL)}",
        )
    if report.unread_files:
        yield Finding(
            "note",
            f"files beside it that no known dimension reads: {', '.join(report.unread_files)}",
        )
