"""Sources: where a dimension's statements come from, as the user says it."""

from dataclasses import replace
from pathlib import Path

from pipelines.statements.choice import files_of_no_dimension
from pipelines.statements.directory import require_file_for
from pipelines.statements.files import rows_in_file
from pipelines.statements.hub import benchmark_name, hub_rows, is_hub_source
from pipelines.statements.hub_benchmarks import HUB_BENCHMARKS
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.mix import parse_mix
from pipelines.statements.packaged import packaged_rows
from pipelines.statements.rows import StatementRows
from pipelines.statements.tables import SUFFIXES
from registry.dimensions import Dimension
from registry.errors import InvalidInput, NotFound, near_path, unknown_name

DATA_SEED = 0
PACKAGED = "packaged"


def load_statements(
    dimension: Dimension, data: str, *, limit: int = 0, seed: int = DATA_SEED, as_released: bool = False
) -> LabelledStatements:
    """The statements of ``dimension`` from ``data``.

    ``data`` is ``packaged``; ``hub``, or a benchmark there by name (``truthfulqa``, ``toxigen@paper``); a directory
    with a file for the dimension; one file; or a mix, such as ``toxicity=./mine.csv,privacy=packaged``. ``limit`` draws
    about so many statements, in whole groups; 0 takes all. ``as_released`` keeps a benchmark's faulty rows. Raises
    ``UnknownName`` for a source that is none of these, and whatever is wrong with the statements themselves.
    """
    return load_rows(dimension, data, seed=seed).statements(as_released=as_released).subset(limit, seed)


def load_rows(dimension: Dimension, data: str, *, seed: int = DATA_SEED) -> StatementRows:
    """The same before anything is refused or dropped: every row of the source, in its order."""
    source = require_source(dimension, data)
    if source == PACKAGED:
        return packaged_rows(dimension.name, seed)
    if is_hub_source(source):
        return hub_rows(source, dimension, seed)
    path = Path(source).expanduser()
    if path.is_dir():
        rows = rows_in_file(require_file_for(path, dimension.name), dimension)
        return replace(rows, unread_files=files_of_no_dimension(path))
    return rows_in_file(path, dimension)


def require_source(dimension: Dimension, data: str) -> str:
    """The part of ``data`` that speaks of ``dimension``, once it is known to exist; nothing is read or fetched.

    Raises ``UnknownName``, ``NotFound``, or ``InvalidInput`` for a mix that leaves the dimension out.
    """
    source = _source_for(dimension.name, data)
    path = Path(source).expanduser()
    if is_hub_source(source):
        benchmark_name(source, dimension)
        return source
    if source == PACKAGED or path.is_file():
        return source
    if path.is_dir():
        require_file_for(path, dimension.name)
        return source
    if "/" in source or path.suffix.lower() in SUFFIXES:
        raise NotFound(
            f"there is no {source}{near_path(source)} give a directory, a {', '.join(SUFFIXES)} file, packaged or hub"
        )
    known = (PACKAGED, "hub", *HUB_BENCHMARKS, "a directory", "a .csv, .jsonl or .parquet file")
    raise unknown_name("data source", source, known)


def _source_for(dimension: str, data: str) -> str:
    """``data`` itself, or the part of a mix that speaks of ``dimension``."""
    sources = parse_mix(data)
    if sources is None:
        return data
    if dimension not in sources:
        raise InvalidInput(f"data {data!r} names no source for {dimension}; add {dimension}=packaged or leave it out")
    return sources[dimension]
