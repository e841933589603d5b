"""Statements from a user's files: CSV, JSON lines or Parquet with ``statement`` and ``label``.

Optional columns: ``group`` or ``pair`` (rows that must not be parted), ``split``.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from pipelines.statements.benchmarks import BENCHMARKS
from pipelines.statements.labelled import LabelledStatements
from registry.errors import CorruptFile, InvalidInput, NotFound

SUFFIXES = (".csv", ".jsonl", ".parquet")
REQUIRED = ("statement", "label")
_LABELS = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}


def statements_in_directory(directory: Path, dimension: str) -> LabelledStatements:
    """The file of ``directory`` that serves ``dimension``: one named after it, or a known benchmark's.

    Raises ``NotFound``, naming the files that would serve and those that are there.
    """
    wanted = [dimension, *(one.name for one in BENCHMARKS.values() if one.dimension == dimension)]
    for stem in wanted:
        for suffix in SUFFIXES:
            if (directory / f"{stem}{suffix}").is_file():
                return statements_in_file(directory / f"{stem}{suffix}", dimension)
    present = sorted(path.name for path in directory.iterdir() if path.suffix in SUFFIXES)
    raise NotFound(
        f"{directory} has no statements for {dimension}: {' or '.join(f'{stem}.csv' for stem in wanted)} would serve "
        f"(also .jsonl, .parquet); there: {', '.join(present) or 'no data file'}"
    )


def statements_in_file(path: Path, dimension: str) -> LabelledStatements:
    """Read one file; a known benchmark's name brings its polarity and grouping, and drops its own conflicting rows.

    Raises ``InvalidInput`` for missing columns, labels other than 0 and 1, empty texts, or one class only; conflicting
    labels are refused in a user's own file.
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
    if benchmark and benchmark.dimension == dimension:
        frame = _without_conflicts(frame.assign(label=frame["label"] == bool(benchmark.trustworthy_label)))
        groups = _codes([benchmark.group_of(text) for text in frame["statement"]])
        source = f"{benchmark.name}@paper"
    else:
        groups = _groups(frame)
        source = f"file:{path.name}"
    return LabelledStatements(
        dimension=dimension,
        texts=tuple(frame["statement"]),
        labels=frame["label"].to_numpy(dtype=bool),
        groups=groups,
        source=source,
        split=tuple(frame["split"].astype(str)) if "split" in frame.columns else None,
    )


def _read(path: Path) -> pd.DataFrame:
    if path.suffix not in SUFFIXES:
        raise InvalidInput(f"{path.name} is not one of {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype={"statement": str, "label": str}, keep_default_na=False)
        if path.suffix == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        return pd.read_parquet(path)
    except (ValueError, OSError, UnicodeDecodeError) as error:
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
            f"{frame['label'].iloc[row]!r}; label 1 is trustworthy"
        )
    labels: Bool[np.ndarray, " n"] = words.map(_LABELS).to_numpy(dtype=bool)
    return labels


def _without_conflicts(frame: pd.DataFrame) -> pd.DataFrame:
    """A published file's own errors: texts with both labels go, copies of a text are kept once."""
    labels = frame.groupby("statement")["label"].transform("nunique")
    return frame[labels == 1].drop_duplicates("statement").reset_index(drop=True)


def _groups(frame: pd.DataFrame) -> Int64[np.ndarray, " n"]:
    """The user's groups or pairs; without them, equal texts belong together and every other one stands alone."""
    for column in ("group", "pair"):
        if column in frame.columns:
            return _codes(frame[column].astype(str).tolist())
    return _codes([text.strip().lower() for text in frame["statement"]])


def _codes(keys: Sequence[str]) -> Int64[np.ndarray, " n"]:
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
