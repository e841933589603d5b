"""Statements from a user's files: CSV, JSON lines or Parquet with ``statement`` and ``label``.

Optional columns: ``group`` and ``pair`` (rows that must not be parted), ``split`` (``train`` or ``test``).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from pipelines.statements.benchmarks import BENCHMARKS, Benchmark, Card, normalised
from pipelines.statements.declared import Declaration, declaration_for
from pipelines.statements.rows import StatementRows
from pipelines.statements.splits import connected_groups
from registry.dimensions import Dimension
from registry.errors import CorruptFile, InvalidInput, NotFound

SUFFIXES = (".csv", ".jsonl", ".parquet")
REQUIRED = ("statement", "label")
SPLITS = ("train", "test")
_LABELS = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}


def rows_in_directory(directory: Path, dimension: Dimension) -> StatementRows:
    """The file of ``directory`` that serves ``dimension``: one named after it, or a known benchmark's.

    Raises ``NotFound``, naming the files that would serve and those that are there.
    """
    wanted = [dimension.name, *(one.name for one in BENCHMARKS.values() if one.dimension == dimension.name)]
    for stem in wanted:
        for suffix in SUFFIXES:
            if (directory / f"{stem}{suffix}").is_file():
                return rows_in_file(directory / f"{stem}{suffix}", dimension)
    present = sorted(path.name for path in directory.iterdir() if path.suffix in SUFFIXES)
    raise NotFound(
        f"{directory} has no statements for {dimension.name}: {' or '.join(f'{stem}.csv' for stem in wanted)} would "
        f"serve (also .jsonl, .parquet); there: {', '.join(present) or 'no data file'}"
    )


def rows_in_file(path: Path, dimension: Dimension) -> StatementRows:
    """Read one file; a known benchmark's name brings its polarity and grouping, and drops its own conflicting rows.

    Raises ``InvalidInput`` for missing columns, labels other than 0 and 1, and empty texts; conflicting labels are
    refused later, when statements are made of a user's own rows.
    """
    frame = _read(path)
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise InvalidInput(
            f"{path.name} has no column {' and no column '.join(missing)}; it has "
            f"{', '.join(map(str, frame.columns))}, and "
            f"{', '.join(REQUIRED)} are needed (group, pair and split are optional)"
        )
    if frame.empty:
        raise InvalidInput(f"{path.name} has a header and no rows")
    frame = frame.assign(statement=_texts(frame, path), label=_labels(frame, path))
    benchmark = BENCHMARKS.get(path.stem)
    if benchmark and benchmark.dimension == dimension.name:
        return benchmark_rows(frame, benchmark)
    return _own_rows(frame, path, declaration_for(path, dimension))


def benchmark_rows(frame: pd.DataFrame, benchmark: Benchmark) -> StatementRows:
    """The rows of a benchmark's file as released, with its polarity and its groups."""
    keys = [benchmark.group_of(text) for text in frame["statement"]]
    return StatementRows(
        texts=tuple(frame["statement"]),
        labels=frame["label"].to_numpy(dtype=bool) == bool(benchmark.trustworthy_label),
        groups=np.unique(keys, return_inverse=True)[1].astype(np.int64),
        source=f"{benchmark.name}@paper",
        card=benchmark,
        conflicts="drop",
    )


def _own_rows(frame: pd.DataFrame, path: Path, declared: Declaration) -> StatementRows:
    dimension = declared.dimension
    columns = [name for name in ("group", "pair") if name in frame.columns]
    return StatementRows(
        texts=tuple(frame["statement"]),
        labels=frame["label"].to_numpy(dtype=bool) == bool(declared.trustworthy_label),
        groups=_groups(frame, columns),
        source=f"file:{path.name}",
        card=Card(
            name=path.name,
            dimension=dimension.name,
            question=declared.question or f"Is it {dimension.trustworthy}?",
            trustworthy=f"{dimension.trustworthy} (label {declared.trustworthy_label} in the file)",
            group=", ".join([*columns, "text"]),
            licence=declared.licence,
            citation=declared.citation,
        ),
        split=_split(frame, path) if "split" in frame.columns else None,
    )


def _read(path: Path) -> pd.DataFrame:
    if path.suffix not in SUFFIXES:
        raise InvalidInput(f"{path.name} is not one of {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path.name} is empty; {' and '.join(REQUIRED)} are needed")
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        if path.suffix == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise CorruptFile(f"{path} could not be read as {path.suffix[1:]}: {error}") from error


def _texts(frame: pd.DataFrame, path: Path) -> "pd.Series[str]":
    texts = frame["statement"]
    empty = texts.isna() | (texts.astype(str).str.strip() == "")
    if empty.any():
        raise InvalidInput(
            f"{path.name} has {int(empty.sum())} rows without a statement, the first in row {int(np.argmax(empty)) + 1}"
        )
    return texts.astype(str)


def _labels(frame: pd.DataFrame, path: Path) -> Bool[np.ndarray, " n"]:
    words = frame["label"].astype(str).str.strip().str.lower()
    wrong = ~words.isin(_LABELS)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidInput(
            f"{path.name} has {int(wrong.sum())} labels that are neither 0 nor 1, the first in row {row + 1}: "
            f"{frame['label'].iloc[row]!r}; label 1 is trustworthy unless a .dimension.toml beside the file turns it"
        )
    labels: Bool[np.ndarray, " n"] = words.map(_LABELS).to_numpy(dtype=bool)
    return labels


def _split(frame: pd.DataFrame, path: Path) -> tuple[str, ...]:
    parts = frame["split"].astype(str).str.strip().str.lower()
    wrong = ~parts.isin(SPLITS)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidInput(
            f"{path.name} has the split {frame['split'].iloc[row]!r} in row {row + 1}; use {' and '.join(SPLITS)}, or "
            "leave the column out"
        )
    return tuple(parts)


def _groups(frame: pd.DataFrame, columns: list[str]) -> Int64[np.ndarray, " n"]:
    """Rows that share a group, a pair or a text (but for case and spaces) belong together; blank cells tie nothing."""
    keys = [
        [None if blank else str(key) for key, blank in zip(frame[name], _blank(frame[name]), strict=True)]
        for name in columns
    ]
    return connected_groups([normalised(text) for text in frame["statement"]], *keys)


def _blank(column: "pd.Series[str]") -> "pd.Series[bool]":
    return column.isna() | (column.astype(str).str.strip() == "")
