"""Files of statements: CSV, JSON lines or Parquet with ``statement`` and ``label``, or ``prompt,response,label``.

Optional columns: ``group`` and ``pair`` (rows that must not be parted), ``split`` (``train`` or ``test``), ``frame``
(the wording around the contrast, by any name).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from pipelines.statements.answer_form import COLUMNS, has_answer_form, is_chat, with_statements
from pipelines.statements.benchmarks import BENCHMARKS, Benchmark, DatasetCard, normalised
from pipelines.statements.declared import Declaration, declaration_for
from pipelines.statements.directory import stem_of
from pipelines.statements.rows import StatementRows
from pipelines.statements.splits import connected_groups
from pipelines.statements.tables import Table, as_text, read_table
from registry.counts import counted
from registry.dimensions import Dimension
from registry.errors import InvalidInput

REQUIRED = ("statement", "label")
TYING = ("group", "pair")
OPTIONAL = (*TYING, "split", "frame")
SPLITS = ("train", "test")
_LABELS = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}


def rows_in_file(path: Path, dimension: Dimension) -> StatementRows:
    """Read one file; a known benchmark's name brings its polarity and grouping, and drops its own conflicting rows.

    Raises ``InvalidInput`` for missing columns, labels other than 0 and 1, and statements that are empty or no text.
    Conflicting labels are refused later, when statements are made of a user's own rows.
    """
    benchmark = BENCHMARKS.get(stem_of(path))
    if benchmark and benchmark.dimension != dimension.name:
        raise InvalidInput(
            f"{path.name} bears the name of a benchmark of {benchmark.dimension}, not {dimension.name}; give "
            f"{benchmark.dimension}={path}, or rename the file if it is your own"
        )
    table = read_table(path)
    is_of_answers = has_answer_form(table)
    if is_of_answers:
        table = with_statements(table, path)
    _require_columns(table, path)
    if benchmark:
        rows = benchmark_rows(_texts(table, path), _labels(table, path), benchmark)
    else:
        rows = _own_rows(table, path, declaration_for(path, dimension), COLUMNS if is_of_answers else ())
    return replace(rows, prompts=tuple(map(str, table.columns["prompt"]))) if is_of_answers else rows


def benchmark_rows(texts: tuple[str, ...], labels: Bool[np.ndarray, " n"], benchmark: Benchmark) -> StatementRows:
    """The rows of a benchmark's file as released, with its polarity and its groups."""
    keys = [benchmark.group_of(text) for text in texts]
    return StatementRows(
        texts=texts,
        labels=labels == bool(benchmark.trustworthy_label),
        groups=np.unique(keys, return_inverse=True)[1].astype(np.int64),
        source=f"{benchmark.name}@paper",
        card=benchmark,
        conflicts="drop",
    )


def _own_rows(table: Table, path: Path, declared: Declaration, answer_form: tuple[str, ...]) -> StatementRows:
    """``answer_form`` has the columns that statements were made of, the prompt first: its answers stay together."""
    dimension, texts = declared.dimension, _texts(table, path)
    tying = [name for name in (*TYING, *answer_form[:1]) if name in table.columns]
    # Rows that share a group, a pair or a text (but for case and spaces) belong together; blank cells tie nothing.
    groups: Int64[np.ndarray, " n"] = connected_groups(
        [normalised(text) for text in texts], *(_ids(table, name, path) for name in tying)
    )
    read = (*REQUIRED, *OPTIONAL, *answer_form)
    return StatementRows(
        texts=texts,
        labels=_labels(table, path) == bool(declared.trustworthy_label),
        groups=groups,
        source=f"file:{path.name}",
        card=DatasetCard(
            name=path.name,
            dimension=dimension.name,
            question=declared.question or f"Is it {dimension.trustworthy}?",
            trustworthy=f"{dimension.trustworthy} (label {declared.trustworthy_label} in the file)",
            group=", ".join([*tying, "text"]),
            licence=declared.licence,
            citation=declared.citation,
        ),
        split=_split(table, path) if "split" in table.columns else None,
        frames=_frames(table, path) if "frame" in table.columns else None,
        unread_columns=tuple(name for name in table.columns if name and name not in read),
    )


def _require_columns(table: Table, path: Path) -> None:
    if not table.places:
        raise InvalidInput(f"{path.name} has no rows; give statements with labels")
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        only = next(iter(table.columns)) if len(table.columns) == 1 else ""
        raise InvalidInput(
            f"{path.name} has no column {' and no column '.join(missing)}; it has {', '.join(table.columns)}, and "
            f"{', '.join(REQUIRED)} are needed, or {', '.join(COLUMNS)} in place of {REQUIRED[0]} "
            f"({', '.join(OPTIONAL)} are optional)"
            + ("; separate columns by commas" if any(mark in only for mark in ";\t|") else "")
        )


def _texts(table: Table, path: Path) -> tuple[str, ...]:
    statements = table.columns["statement"]
    blank = [row for row, text in enumerate(statements) if text is None or text != text or not str(text).strip()]
    if blank:
        raise InvalidInput(
            f"{path.name} has {counted(len(blank), 'row')} without a statement, the first in {table.places[blank[0]]}"
        )
    for text, place in zip(statements, table.places, strict=True):
        if not isinstance(text, str) or is_chat(text):
            kind = "a chat" if isinstance(text, str | list | dict) else f"the {type(text).__name__} {text!r}"
            raise InvalidInput(
                f"{path.name} has {kind} as the statement of {place}; a statement is one text, so write it out as the "
                "text that the model is to read"
            )
    return tuple(str(text) for text in statements)


def _labels(table: Table, path: Path) -> Bool[np.ndarray, " n"]:
    labels = [_LABELS.get(str(label).strip().lower()) for label in table.columns["label"]]
    wrong = [row for row, label in enumerate(labels) if label is None]
    if wrong:
        raise InvalidInput(
            f"{path.name} has {counted(len(wrong), 'label')} other than 0 and 1, the first in "
            f"{table.places[wrong[0]]}: "
            f"{table.columns['label'][wrong[0]]!r}; label 1 is trustworthy unless a .dimension.toml beside the file "
            "turns it"
        )
    return np.array(labels, bool)


def _split(table: Table, path: Path) -> tuple[str, ...]:
    parts = tuple(str(part).strip().lower() for part in table.columns["split"])
    for part, written, place in zip(parts, table.columns["split"], table.places, strict=True):
        if part not in SPLITS:
            raise InvalidInput(
                f"{path.name} has the split {written!r} in {place}; use {' and '.join(SPLITS)}, or leave the column out"
            )
    return parts


def _frames(table: Table, path: Path) -> Int64[np.ndarray, " n"]:
    """Frames by number; a blank cell is the frame of all blank ones."""
    names = [name or "" for name in _ids(table, "frame", path)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _ids(table: Table, name: str, path: Path) -> list[str | None]:
    ids = []
    for value, place in zip(table.columns[name], table.places, strict=True):
        try:
            ids.append(as_text(value))
        except ValueError as error:
            raise InvalidInput(f"the {name} of {path.name}, {place} {error}") from error
    return ids
