"""Page of a model: the newest run of each kind in MLflow, as one document that needs nothing beside itself."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Number
from pathlib import Path
from types import MappingProxyType

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipelines.calibrate.options import CalibrateOptions
from pipelines.cli.parameters import with_values
from pipelines.cli.pasting import mlflow_run
from pipelines.experiment import require_model
from pipelines.report.explorer import explorer
from pipelines.report.first_screen import answers, verdicts, without_empty_columns
from pipelines.report.options import ReportOptions, file_to_write
from pipelines.report.tracking import ChampionCard, ReportedRun, champions, log_page, newest_runs, reported_models
from pipelines.statements.options import StatementsOptions
from pipelines.statements.sources import PACKAGED, load_statements
from pipelines.sweep.halves import able_to_calibrate
from pipelines.tracking.champions import short_name
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.runs import code_commit, entry_point_run
from registry.errors import NotFound, TrustTraceError, Unavailable, UnknownName

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
            "validation and reported on test. Controls: the unsteered model, and random directions that move as far.",
        ),
        "evaluate": (
            "Whether steering works",
            "Change against the unsteered model on held-out statements and benchmarks; 95 % paired bootstrap interval "
            "over groups. Controls: random directions that move as far, the vector reversed, an instruction.",
        ),
        "finetune": ("Fine-tuning", "Loss in nats per token, on training and on validation statements."),
    }
)
"""Title, and the end of every caption, for each entry point in the order of the page."""

OPEN_ROWS = 30
"""Longer tables are folded."""
SHOWN_ROWS = 100
"""Of a table on the page; all of them are in the run."""
PANEL = "all_dimensions"
"""The figure of ``probe`` that has a curve for every dimension; the first screen shows it."""
LEAD_TABLES = ("onsets.csv", "verdicts.csv", "correlation.csv", "entanglement.csv")
"""Short tables that answer the section's question; they come before its figures."""


@dataclass(frozen=True)
class PageTable:
    """A table as the page shows it: folded where it is long, cut where it is very long."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    n_rows: int

    @classmethod
    def from_frame(cls, name: str, content: pd.DataFrame) -> "PageTable":
        rows = content.head(SHOWN_ROWS).itertuples(index=False, name=None)
        return cls(name, tuple(map(str, content.columns)), tuple(rows), len(content))

    @property
    def is_folded(self) -> bool:
        return self.n_rows > OPEN_ROWS

    @property
    def is_cut(self) -> bool:
        return self.n_rows > len(self.rows)


@dataclass(frozen=True)
class Picture:
    """A figure with its caption."""

    png: bytes
    caption: str

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Section:
    """One run: the tables that answer its question, its figures, its other tables and its configuration."""

    entry_point: str
    title: str
    run_id: str
    started: str
    commit: str
    lead_tables: tuple[PageTable, ...]
    figures: tuple[Picture, ...]
    tables: tuple[PageTable, ...]
    configuration: tuple[tuple[str, str], ...]

    @classmethod
    def from_run(cls, entry_point: str, run: ReportedRun) -> "Section":
        title, note = SECTIONS[entry_point]
        tables = {name: PageTable.from_frame(name, content) for name, content in run.tables.items()}
        return cls(
            entry_point=entry_point,
            title=title,
            run_id=run.run_id,
            started=run.started,
            commit=run.commit,
            lead_tables=tuple(tables[name] for name in LEAD_TABLES if name in tables),
            figures=tuple(
                Picture(png, f"{name.replace('_', ' ')}. {_sizes(name, run.tables)}{note}")
                for name, png in run.figures.items()
                if name != PANEL
            ),
            tables=tuple(table for name, table in tables.items() if name not in LEAD_TABLES),
            configuration=tuple(sorted(run.params.items())),
        )


def run_reporting(options: ReportOptions) -> None:
    """Write, log and announce the page. Raises ``NotFound`` for a model without finished runs."""
    model, output = options.model, file_to_write(options.output)
    with entry_point_run(f"report {model}", options.params()) as run:
        runs = newest_runs(model, tuple(SECTIONS))
        if not runs:
            reported = reported_models()
            near = get_close_matches(model, reported, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            others = f"it has runs of {', '.join(reported)}; " if reported else ""
            start = f"start with {mlflow_run('report', model=near[0])}" if near else _probing(model)
            raise NotFound(f"MLflow has no finished run of {model}; {meant}{others}{start}")
        content = report_page(model, runs, champions(model))
        place = log_page(content)
        if output is not None:
            _write(output, content)
        kinds = ", ".join(runs)
        print(f"\n{model}: {kinds} on one page, {len(content) / 1e6:.1f} MB: {place}")  # noqa: T201
        if output is not None:
            print(output.resolve())  # noqa: T201
        missing = "" if "calibrate" in runs else calibration_command(model, next(iter(runs.values())))
        verdict = f"One page of {model}, of its newest runs of {kinds}: report.html."
        conclude(run, Conclusion(verdict=verdict, next=missing))


def _probing(model: str) -> str:
    """The command that makes the first run of ``model``, or why there can be none."""
    try:
        require_model(model)
    except UnknownName as error:
        return str(error)
    return f"start with {mlflow_run('probe', model=model)}"


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise Unavailable(f"{path} cannot be written ({error.strerror}); give another file as `output`") from error


def calibration_command(model: str, run: ReportedRun) -> str:
    """The command that calibrates vectors of what ``run`` was given; none for statements that are gone or too few."""
    defaults = CalibrateOptions().params()
    names = ("checkpoint", "dimensions", "data", "limit", "seeds", "precision", "device")
    given = {name: run.params[name] for name in names if run.params.get(name, defaults[name]) != defaults[name]}
    shared = StatementsOptions().params()
    options = with_values(StatementsOptions(), {name: text for name, text in given.items() if name in shared})
    if options.data == PACKAGED and not options.limit:
        return mlflow_run("calibrate", model=model, **given)
    try:
        statements = {each.name: load_statements(each, options.data, limit=options.limit) for each in options.chosen}
    except TrustTraceError:
        return ""
    able = able_to_calibrate(statements)
    given |= {} if len(able) == len(statements) else {"dimensions": ",".join(able)}
    return mlflow_run("calibrate", model=model, **given) if able else ""


def report_page(model: str, runs: Mapping[str, ReportedRun], vectors: Iterable[ChampionCard] = ()) -> str:
    """The whole page; ``runs`` by entry point. Every value that is shown is escaped."""
    cards = tuple(vectors)
    champion_rows, first = without_empty_columns(pd.DataFrame([card.row for card in cards])), answers(runs)
    script = (Path(__file__).parent / "explorer.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("template.html")
        .render(
            model=model,
            name=short_name(model),
            commit=code_commit(),
            verdicts=verdicts(runs),
            panel=_panel(runs),
            series=explorer(runs, cards),
            script=Markup(script),
            script_hash=Markup(f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"),
            answers=None if first.empty else PageTable.from_frame("answers", first),
            sections=[Section.from_run(kind, runs[kind]) for kind in SECTIONS if kind in runs],
            champions=None if champion_rows.empty else PageTable.from_frame("champions", champion_rows),
        )
    )


def _panel(runs: Mapping[str, ReportedRun]) -> Picture | None:
    png = runs["probe"].figures.get(PANEL) if "probe" in runs else None
    return None if png is None else Picture(png, f"All dimensions over training. {SECTIONS['probe'][1]}")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.tests["numeric"] = lambda value: isinstance(value, Number) and not isinstance(value, bool)
    environment.filters["shown"] = shown
    environment.filters["breakable"] = breakable
    return environment


def breakable(name: str) -> Markup:
    """A name that a narrow cell may break after its dots, dashes and underscores, and nowhere else."""
    return Markup(re.sub(r"(?<=[._-])(?=\w)", "<wbr>", str(escape(name))))


def shown(value: object) -> object:
    """A cell: numbers with four significant digits, nothing for one that is missing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if value != value else f"{value:z.4g}"
    return value


def _sizes(figure: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """``n = 84.``: of the rows that are about the figure's dimension, or of all of them."""
    for content in tables.values():
        column = next((name for name in ("n", "n_test") if name in content), None)
        if column is None:
            continue
        dimension = next((name for name in ("scored", "dimension") if name in content), None)
        about = content[content[dimension].map(lambda name: figure.startswith(f"{name}_"))] if dimension else content
        sizes = (about if len(about) else content)[column].dropna().astype(int)
        if len(sizes):
            low, high = sizes.min(), sizes.max()
            return f"n = {low:,}. " if low == high else f"n = {low:,} to {high:,}. "
    return ""
