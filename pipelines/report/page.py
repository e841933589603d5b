"""The report of a model, from its runs in MLflow to one page."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from pipelines.report.html import Html, element, page, pairs, picture, table
from pipelines.report.tracking import ChampionCard, ReportedRun, champions, log_page, newest_runs
from pipelines.tracking.runs import code_commit, entry_point_run
from registry.errors import NotFound

SECTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "pretrain": ("Pre-training", "The loss of every step stands on the run as a metric."),
        "probe": (
            "When and where it becomes readable",
            "Held-out accuracy of linear probes; 95 % bootstrap interval over groups of statements. Controls: the "
            "random initialisation of the same architecture, n-gram and surface floors, shuffled labels.",
        ),
        "information": (
            "How much information there is",
            "Estimates with 95 % intervals. Controls: permutation nulls and the random initialisation.",
        ),
        "vectors": (
            "Steering vectors",
            "Directions by several estimators. Controls: random directions and vectors of shuffled labels.",
        ),
        "calibrate": (
            "How far it can be steered",
            "Change of preference in nats by strength with its 95 % bootstrap interval over groups, chosen on "
            "validation and told on test. Controls: the unsteered model, and random directions that move as far.",
        ),
        "evaluate": (
            "Whether steering works",
            "Change against the unsteered model on held-out statements and benchmarks; 95 % paired bootstrap interval "
            "over groups. Controls: random directions that move as far, the vector reversed, an instruction.",
        ),
        "finetune": ("Fine-tuning", "Loss in nats a token, on what was learnt from and on validation statements."),
    }
)
"""Title, and what stands in every caption, for each entry point in the order of the page."""

LEAD_TABLES = ("verdicts.csv", "correlation.csv", "entanglement.csv")
"""Short tables that answer the section's question; they come before its figures."""


def run_reporting(model: str, output: str, params: Mapping[str, object]) -> None:
    """Write, log and announce the page. Raises ``NotFound`` for a model without finished runs."""
    with entry_point_run(f"report {model}", params):
        found = newest_runs(model, tuple(SECTIONS))
        if not found:
            raise NotFound(f"MLflow has no finished run of {model}; start with mlflow run . -e probe -P model={model}")
        content = report_page(model, found, champions(model))
        place = log_page(content)
        if output != "none":
            Path(output).write_text(content, encoding="utf-8")
        print(f"\n{len(found)} runs of {model}, {len(content) / 1e6:.1f} MB: {place}")  # noqa: T201
        if output != "none":
            print(Path(output).resolve())  # noqa: T201


def report_page(model: str, runs: Mapping[str, ReportedRun], vectors: tuple[ChampionCard, ...] = ()) -> str:
    """The whole page; ``runs`` by entry point."""
    body = [
        element("h1", f"TrustTrace: {model}"),
        element("p", f"Written at commit {code_commit()} from the newest finished run of each kind.", class_="quiet"),
    ]
    body += _in_short(runs)
    for kind in SECTIONS:
        if kind in runs:
            body += _section(kind, runs[kind])
        if kind == "calibrate" and vectors:
            body += [element("h2", "Champions"), table("champions", pd.DataFrame([one.row for one in vectors]))]
    return page(f"TrustTrace: {model}", body)


def _in_short(runs: Mapping[str, ReportedRun]) -> list[Html]:
    """What it comes to: whether each dimension can be steered, where that was evaluated."""
    found = runs["evaluate"].tables.get("verdicts.csv") if "evaluate" in runs else None
    if found is None:
        return []
    columns = [one for one in ("dimension", "works", "preference", "low", "high", "n", "p_holm") if one in found]
    said = "Change of preference for trustworthy statements in nats, with its 95 % interval; conditions are below."
    return [element("p", said), table("in short", found[columns])]


def _section(kind: str, run: ReportedRun) -> Iterator[Html]:
    title, note = SECTIONS[kind]
    yield element("h2", title)
    yield element("p", f"mlflow run . -e {kind}, run {run.run_id}, {run.started}, commit {run.commit}.", class_="quiet")
    for name in LEAD_TABLES:
        if name in run.tables:
            yield element("h3", name)
            yield table(name, run.tables[name])
    for name, png in run.figures.items():
        yield picture(png, f"{name.replace('_', ' ')}. {_sizes(name, run.tables)}{note}")
    for name, content in run.tables.items():
        if name not in LEAD_TABLES:
            yield element("h3", name)
            yield table(name, content)
    yield element("h3", "Configuration")
    yield pairs(sorted(run.params.items()))


def _sizes(figure: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """``n = 84.``: of the rows that are about the figure's dimension, or of all of them."""
    for content in tables.values():
        column = next((name for name in ("n", "n_test") if name in content), None)
        if column is None:
            continue
        dimension = next((name for name in ("scored", "dimension") if name in content), None)
        about = content[content[dimension].map(lambda one: figure.startswith(f"{one}_"))] if dimension else content
        sizes = (about if len(about) else content)[column].dropna().astype(int)
        if len(sizes):
            low, high = sizes.min(), sizes.max()
            return f"n = {low:,}. " if low == high else f"n = {low:,} to {high:,}. "
    return ""
