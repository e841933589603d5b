"""What a quality report says in sentences: what forbids a probe, what misleads one, and what it must beat."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipelines.statements.quality import N_FOLDS, QualityReport

Severity = Literal["refused", "warning", "note"]

TELLING_AUROC = 0.6
"""A count alone that separates the classes this well, or as far the other way, is worth a warning."""
TELLING_MARGIN = 0.1
"""So far above always giving the more frequent label, counts or the last word make a probe's accuracy cheap."""
FEW_GROUPS = 30
UNBALANCED = 0.6
LEAKAGE = 0.01
COUNTED = {"length": "characters", "words": "words", "capitals": "capitals", "punctuation": "punctuation marks"}
SEEN = {
    "last_word": "the last word alone",
    "surface": "the numbers of characters, words, capitals and punctuation marks alone",
    "ngram_word": "a bag of words and word pairs",
    "ngram_char": "a bag of character sequences",
}


@dataclass(frozen=True)
class Finding:
    """One sentence on a set of statements."""

    severity: Severity
    sentence: str


def findings(report: QualityReport) -> tuple[Finding, ...]:
    """What a user should know, the gravest first."""
    order = ("refused", "warning", "note")
    found = [*_faults(report), *_leaks(report), *_giveaways(report)]
    return tuple(sorted(found, key=lambda one: order.index(one.severity)))


def _faults(report: QualityReport) -> Iterator[Finding]:
    dropped = report.conflicts == "drop"
    if report.n_trustworthy in (0, report.n):
        yield Finding("refused", f"all {report.n} statements have one label; a probe needs both")
    if report.n_groups < N_FOLDS:
        yield Finding("refused", f"{report.n_groups} groups cannot be split into {N_FOLDS} folds; give more groups")
    elif report.n_groups < FEW_GROUPS:
        yield Finding("warning", f"there are {report.n_groups} groups only, so that every interval is wide")
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


def _giveaways(report: QualityReport) -> Iterator[Finding]:
    for name, auroc in report.aurocs.items():
        if auroc.low > TELLING_AUROC or auroc.high < 1 - TELLING_AUROC:
            comparison = "more" if auroc.value > 0.5 else "fewer"
            yield Finding("warning", f"trustworthy statements have {comparison} {COUNTED[name]} (AUROC {auroc})")
    grouped = report.floors.get("grouped", {})
    for name in ("last_word", "surface"):
        if name in grouped and grouped[name].low > report.majority + TELLING_MARGIN:
            yield Finding("warning", f"accuracy {grouped[name]} from {SEEN[name]}")
    if grouped:
        best = max(grouped, key=lambda name: grouped[name].value)
        yield Finding("note", f"a probe must beat {grouped[best]}, from {SEEN[best]}")
