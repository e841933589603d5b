"""First screen of a report: what was found in each dimension, one row a dimension."""

from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from pipelines.report.controls import ProbeControls
from pipelines.report.tracking import ReportedRun
from pipelines.tracking.checkpoints import checkpoint_names

COLUMNS = (
    *("dimension", "best at", "accuracy [95 %]", "above controls", "effect, nats [95 %]", "untrustworthy answers"),
    *("works", "strength"),
)
VERDICT_ORDER = ("probe", "information", "calibrate", "evaluate", "vectors")
MOST_VERDICTS = 5
BEATEN = MappingProxyType({True: "yes", False: "no", None: "cannot be told"})
NOTHING = "not measured"
BEST = "checkpoint and layer"
"""How ``probe.csv`` marks the row that tells what the best choice is worth."""


def verdicts(runs: Mapping[str, ReportedRun]) -> tuple[str, ...]:
    """The sentence that each command left on its run, five at most, those about the model first."""
    kinds = dict.fromkeys((*(kind for kind in VERDICT_ORDER if kind in runs), *runs))
    return tuple(runs[kind].verdict for kind in kinds if runs[kind].verdict)[:MOST_VERDICTS]


def answers(runs: Mapping[str, ReportedRun]) -> pd.DataFrame:
    """Where each dimension is read best, whether that lies above both controls, and what its vector does.

    What was measured in no dimension has no column, and a cell that is empty beside others says so.
    """
    readable, steered = _readable(runs), _steered(runs)
    nothing = ("",) * 4
    rows = [
        (dimension, *readable.get(dimension, nothing[:3]), *steered.get(dimension, nothing))
        for dimension in dict.fromkeys((*readable, *steered))
    ]
    return without_empty_columns(pd.DataFrame(rows, columns=list(COLUMNS))).replace("", NOTHING)


def without_empty_columns(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` without the columns that are empty in every row."""
    return table.loc[:, (table != "").any()]


def _readable(runs: Mapping[str, ReportedRun]) -> dict[str, tuple[str, ...]]:
    table = _table(runs, "probe", "probe.csv")
    if "selected" not in table:
        return {}
    controls = ProbeControls.of(runs["probe"])
    best = table[table["selected"].astype(str).str.startswith(BEST)]
    ladder = _table(runs, "probe", "ladder.csv")
    lexical = set(ladder.loc[ladder["lexical"].astype(bool), "dimension"]) if "lexical" in ladder else set()
    staged = "stage" in best and best["stage"].notna().any()
    places = checkpoint_names(best) if staged else [f"step {step:,}" for step in best["step"]]
    return {
        str(row["dimension"]): (
            f"{place}, layer {row['layer']}",
            _interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"]),
            BEATEN[controls.are_beaten(row)] + (", lexical" if str(row["dimension"]) in lexical else ""),
        )
        for (_, row), place in zip(best.iterrows(), places, strict=True)
    }


def _steered(runs: Mapping[str, ReportedRun]) -> dict[str, tuple[str, ...]]:
    """As evaluated on texts without part in anything, else as calibrated; an older table may lack a column.

    What is written decides where that was judged.
    """
    cells = {str(row["dimension"]): _calibrated(row) for row in _rows(runs, "calibrate", "calibrated.csv")}
    written = {str(row["dimension"]): row for row in _rows(runs, "evaluate", "text.csv")}
    for row in _rows(runs, "evaluate", "verdicts.csv"):
        measured = [row[name] for name in ("preference", "low", "high") if name in row]
        effect = _interval(*measured) if len(measured) == 3 else ""
        strength = f"{row['strength']:g}" if "strength" in row else ""
        text = written.get(str(row["dimension"]))
        answers = f"{text['unsteered']:.1%} → {text['steered']:.1%} (n = {text['n']})" if text else ""
        works = (text or row).get("works")
        cells[str(row["dimension"])] = (effect, answers, "yes" if works else "no", strength)
    return cells


def _calibrated(row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    """What the chosen vector did on calibration's test half: to preferences, or to the share of answers."""
    works, strength = "yes" if row["works"] else "no", f"{row['strength']:g}"
    if pd.isna(row["unsteered"]):
        return (_interval(row["shift"], row["low"], row["high"]), "", works, strength)
    steered = row["unsteered"] - row["shift"]
    return ("", f"{row['unsteered']:.1%} → {steered:.1%} (n = {row['n']})", works, strength)


def _rows(runs: Mapping[str, ReportedRun], kind: str, name: str) -> list[dict[Hashable, Any]]:
    rows: list[dict[Hashable, Any]] = _table(runs, kind, name).to_dict("records")
    return rows


def _table(runs: Mapping[str, ReportedRun], kind: str, name: str) -> pd.DataFrame:
    return runs[kind].tables.get(name, pd.DataFrame()) if kind in runs else pd.DataFrame()


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:z.2f} [{low:z.2f}, {high:z.2f}]"
