"""Tables of a user's data: CSV, JSON lines and Parquet, read as they are written and refused by row.

Not by pandas: it takes the surplus fields of a row for an index, fills short rows, keeps the last of two equal keys and
turns 64-bit ids with a gap among them into floats.
"""

import csv
import io
import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.counts import counted
from registry.errors import CorruptFile, InvalidInput, NotFound, Unavailable

SUFFIXES = (".csv", ".jsonl", ".parquet")
EXACT_WHOLE_NUMBERS = 2**53
"""Above this, neighbouring whole numbers are one floating-point number."""
_LONGEST_FIELD = 1 << 24
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_UTF_32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_OTHER_FORMATS = (
    (b"\x1f\x8b", "compressed by gzip", "decompress it with gunzip"),
    (b"PK\x03\x04", "an Excel workbook or a zip archive", "save it as CSV, or unpack it"),
    (b"PAR1", "Parquet", "give it a name that ends in .parquet"),
)
"""Beginnings of files that are given names of text files."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """Columns of equal length, with the place in the file that each row has."""

    columns: Mapping[str, tuple[object, ...]]
    """By name, in lower case and without outer spaces; ``None`` where a row has no value."""
    places: tuple[str, ...]
    """Such as ``row 2 (line 3)``."""


def is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read_table(path: Path) -> Table:
    """The rows of ``path`` as written.

    Raises ``InvalidInput`` for a row that does not fit the header and for a column or key that is there twice,
    ``NotFound`` for what is no file, and ``CorruptFile`` for what is not the format that the file's name says.
    """
    if not is_table(path):
        raise InvalidInput(f"{path.name} is not one of {', '.join(SUFFIXES)}; save it as one of them")
    if not path.is_file():
        kind = "a directory" if path.is_dir() else "a link to nothing" if path.is_symlink() else "no file"
        raise NotFound(f"{path} is {kind}; give a file, or the directory that holds {path.name}")
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path.name} is empty; statement and label are needed")
    read = {".csv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}[path.suffix.lower()]
    try:
        table = read(path)
    except PermissionError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror}); let this user read it") from error
    _require_characters(path, table)
    return table


def _require_characters(path: Path, table: Table) -> None:
    """Raise ``InvalidInput`` for half of a character, as JSON has it where a text was cut within an emoji."""
    for name, cells in table.columns.items():
        for cell, place in zip(cells, table.places, strict=True):
            half = _SURROGATE.search(cell) if isinstance(cell, str) else None
            if half is not None:
                raise InvalidInput(
                    f"{path.name} has half of a character, {half.group()!a}, in the {name} of {place}, as where a text "
                    "was cut within an emoji; write the whole one, or leave it out"
                )


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark. Raises ``CorruptFile`` for any other encoding."""
    content = path.read_bytes()
    for beginning, kind, remedy in _OTHER_FORMATS:
        if content.startswith(beginning):
            raise CorruptFile(f"{path} is {kind} and no text; {remedy}")
    if content.startswith(_UTF_32):
        raise CorruptFile(f"{path} is UTF-32; {_conversion(path, 'utf-32')}")
    if content.startswith(_UTF_16):
        raise CorruptFile(f"{path} is UTF-16; {_conversion(path, 'utf-16')}")
    if b"\0" in content:
        kind = "utf-16be" if content.startswith(b"\0") else "utf-16le"
        raise CorruptFile(f"{path} holds zero bytes, as UTF-16 without a mark does; {_conversion(path, kind)}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CorruptFile(
            f"{path} is not UTF-8 (byte 0x{content[error.start]:02x} in line {line}); {_conversion(path, 'latin1')}"
        ) from error


def _conversion(path: Path, encoding: str) -> str:
    old, new = shlex.quote(str(path)), shlex.quote(f"{path}.utf8")
    return f"convert it: iconv -f {encoding} -t utf-8 {old} > {new} && mv {new} {old}"


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """The number and the object of every line that is not blank. Raises ``InvalidInput`` naming the line."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            raise InvalidInput(
                f"{path.name}, line {number} is not JSON: {error.msg} at column {error.colno}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"{path.name}, line {number} is too deep, or has a number of too many digits, to be read ({error}); "
                "write texts and labels"
            ) from error
        except _RepeatedKey as error:
            raise InvalidInput(f"{path.name}, line {number} has the key {error} twice; keep one") from error
        if not isinstance(value, dict):
            raise InvalidInput(
                f'{path.name}, line {number} is not a JSON object, such as {{"statement": "…", "label": 1}}'
            )
        yield number, value


class _RepeatedKey(Exception):
    """An object with one key twice."""


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content: dict[str, object] = {}
    for key, value in pairs:
        if key in content:
            raise _RepeatedKey(key)
        content[key] = value
    return content


def _read_csv(path: Path) -> Table:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    csv.field_size_limit(_LONGEST_FIELD)
    header: list[str] = []
    rows: list[tuple[str, ...]] = []
    places: list[str] = []
    first_line = 1
    try:
        for fields in reader:
            if fields and not header:
                header = _column_names(path, fields)
            elif fields:
                places.append(f"row {len(rows) + 1} (line {first_line})")
                if len(fields) != len(header):
                    raise InvalidInput(
                        f"{path.name}, {places[-1]} has {counted(len(fields), 'field')} where the header has "
                        f"{len(header)}: "
                        f"{_shortened(','.join(fields))!r}; put double quotes around a statement that contains a comma"
                    )
                rows.append(tuple(fields))
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise CorruptFile(
            f"{path} could not be read as csv: {error} in the row that begins in line {first_line}; look for a double "
            "quote that is not closed, and write a quote within a statement twice"
        ) from error
    return Table({name: tuple(row[index] for row in rows) for index, name in enumerate(header)}, tuple(places))


def _read_json_lines(path: Path) -> Table:
    objects = [
        (number, dict(zip(_column_names(path, list(content), f", line {number}"), content.values(), strict=True)))
        for number, content in json_lines(path)
    ]
    names = dict.fromkeys(name for _, content in objects for name in content)
    return Table(
        {name: tuple(content.get(name) for _, content in objects) for name in names},
        tuple(f"row {row} (line {number})" for row, (number, _) in enumerate(objects, start=1)),
    )


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except (ValueError, OSError) as error:
        raise CorruptFile(f"{path} could not be read as parquet: {error}") from error
    names = _column_names(path, table.column_names)
    columns = {name: tuple(column.to_pylist()) for name, column in zip(names, table.columns, strict=True)}
    return Table(columns, tuple(f"row {row}" for row in range(1, table.num_rows + 1)))


def _column_names(path: Path, names: Iterable[str], place: str = "") -> list[str]:
    """Without case and outer spaces. Raises ``InvalidInput`` for a name that is there twice."""
    plain = [name.strip().lower() for name in names]
    repeated = [name for row, name in enumerate(plain) if name and name in plain[:row]]
    if repeated:
        raise InvalidInput(f"{path.name}{place} has the column {repeated[0]} twice; keep one")
    return plain


def _shortened(text: str, *, length: int = 80) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def as_text(value: object) -> str | None:
    """An id as the file writes it, without outer spaces; ``None`` for a blank. Raises ``ValueError`` for no id."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, Mapping | list | bytes):
        raise ValueError(f"is {str(value)[:40]!r}; write a text or a whole number")
    if isinstance(value, float) and abs(value) >= EXACT_WHOLE_NUMBERS:
        raise ValueError(f"is the rounded number {value!r}, which several ids share; write whole numbers or texts")
    return str(value).strip() or None
