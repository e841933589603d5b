"""Inspection of statements before anything is measured: a quality report for each dimension, to read and to refuse."""

from collections.abc import Iterable, Sequence

import pandas as pd

from pipelines.statements.findings import Finding, findings
from pipelines.statements.quality import QualityReport, SplitName, inspect_rows
from pipelines.statements.sources import DATA_SEED, load_rows
from registry.counts import counted
from registry.dimensions import Dimension
from registry.errors import InvalidInput

SPLITS: tuple[SplitName, ...] = ("grouped", "sequential")
NAMES = {
    "last_word": "last word",
    "surface": "surface counts",
    "ngram_word": "words, 1–2-grams",
    "ngram_char": "characters, 2–4-grams",
}
MARKS = {"refused": "✗", "warning": "!", "note": "·"}


def inspect_statements(
    dimensions: Iterable[Dimension], data: str, *, limit: int = 0, seed: int = DATA_SEED
) -> list[QualityReport]:
    """A report for every dimension from ``data``, read as ``load_statements`` reads it, before anything is dropped."""
    return [
        inspect_rows(load_rows(dimension, data, seed=seed).subset(limit, seed), seed=seed) for dimension in dimensions
    ]


def refuse(reports: Sequence[QualityReport]) -> None:
    """Raise ``InvalidInput`` with every finding that forbids a probe; return when there is none."""
    forbidding = [
        f"{report.source}: {finding.sentence}"
        for report in reports
        for finding in findings(report)
        if finding.severity == "refused"
    ]
    if forbidding:
        raise InvalidInput("; ".join(forbidding))


def quality_table(reports: Sequence[QualityReport]) -> pd.DataFrame:
    """All reports under each other: columns ``dimension, source, measure, value, low, high``."""
    return pd.DataFrame([row for report in reports for row in report.to_rows()])


def render(report: QualityReport) -> str:
    """The report as Markdown that reads well in a terminal."""
    card = report.card
    lines = [
        f"## {card.dimension} · {report.source}",
        "",
        f"{card.question} Trustworthy: {card.trustworthy}. Held out together: {card.group}.",
        f"{card.citation}. Licence: {card.licence}.",
        "",
        f"{counted(report.n, 'statement')}, {report.n_trustworthy:,} trustworthy "
        f"({report.n_trustworthy / report.n:.1%}), "
        f"in {counted(report.n_groups, 'group')}; {counted(report.n_kept, 'distinct text')} with one label",
        "",
        *_floor_table(report),
        *(_line(finding) for finding in findings(report)),
    ]
    return "\n".join(lines)


def _floor_table(report: QualityReport) -> list[str]:
    if not report.floors:
        return []
    lines = [
        f"| accuracy without a model | {'group folds':<20} | {'in file order':<20} |",
        f"|{'-' * 26}|{'-' * 22}|{'-' * 22}|",
        f"| {'always one label':<24} | {report.majority:<20.3f} | {'':<20} |",
    ]
    for name in next(iter(report.floors.values())):
        cells = (str(report.floors.get(split, {}).get(name, "")) for split in SPLITS)
        lines.append(f"| {NAMES[name]:<24} | " + " | ".join(f"{cell:<20}" for cell in cells) + " |")
    lines += ["", "AUROC of counts: " + ", ".join(f"{name} {auroc}" for name, auroc in report.aurocs.items()), ""]
    return lines


def _line(finding: Finding) -> str:
    word = "" if finding.severity == "note" else f"{finding.severity}: "
    return f"{MARKS[finding.severity]} {word}{finding.sentence}"
