"""Where a dimension's statements come from, as the user says it."""

from pathlib import Path

from pipelines.statements.files import statements_in_directory, statements_in_file
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.packaged import packaged_statements
from registry.dimensions import Dimension
from registry.errors import InvalidInput, unknown_name

DATA_SEED = 0


def load_statements(dimension: Dimension, data: str, *, limit: int = 0, seed: int = DATA_SEED) -> LabelledStatements:
    """The statements of ``dimension`` from ``data``.

    ``data`` is ``packaged``; a directory with a file for the dimension; one file; or a mix, such as
    ``toxicity=./mine.csv,privacy=packaged``. ``limit`` draws about so many statements, in whole groups; 0 takes all.
    Raises ``UnknownName`` for a source that is none of these, and whatever is wrong with the statements themselves.
    """
    source = _source_for(dimension.name, data)
    if source == "packaged":
        statements = packaged_statements(dimension.name, seed)
    else:
        path = Path(source).expanduser()
        if path.is_dir():
            statements = statements_in_directory(path, dimension.name)
        elif path.is_file():
            statements = statements_in_file(path, dimension.name)
        else:
            raise unknown_name("data source", source, ("packaged", "a directory", "a .csv, .jsonl or .parquet file"))
    return statements.subset(limit, seed)


def _source_for(dimension: str, data: str) -> str:
    """``data`` itself, or the part of a mix that speaks of ``dimension``."""
    if "=" not in data:
        return data
    parts = dict(part.partition("=")[::2] for part in data.split(","))
    if dimension not in parts:
        raise InvalidInput(f"data {data!r} names no source for {dimension}; add {dimension}=packaged or leave it out")
    return parts[dimension].strip()
