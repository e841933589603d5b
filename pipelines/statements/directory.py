"""Directory of data files: which of them serves a dimension."""

import unicodedata
from pathlib import Path

from pipelines.statements.benchmarks import BENCHMARKS
from pipelines.statements.tables import is_table
from registry.errors import InvalidInput, NotFound


def file_for(directory: Path, dimension: str) -> Path | None:
    """The file named after ``dimension``, else a known benchmark's of it. Raises ``InvalidInput`` where two serve."""
    for stem in _stems(dimension):
        paths = sorted(path for path in directory.iterdir() if is_table(path) and stem_of(path) == stem)
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise InvalidInput(
                f"{directory} has {names} for {dimension}; keep one, or give data={dimension}={paths[0]}"
            )
        if paths:
            return paths[0]
    return None


def require_file_for(directory: Path, dimension: str) -> Path:
    """The same. Raises ``NotFound``, naming the files that would serve and those that are there."""
    path = file_for(directory, dimension)
    if path is None:
        present = ", ".join(sorted(path.name for path in directory.iterdir() if is_table(path)))
        names = " or ".join(f"{stem}.csv" for stem in _stems(dimension))
        raise NotFound(
            f"{directory} has no statements for {dimension}: {names} would serve (also .jsonl, .parquet); "
            f"there: {present or 'no data file'}"
        )
    return path


def stem_of(path: Path) -> str:
    """The file's name without its ending, case and spelling of accents."""
    return unicodedata.normalize("NFC", path.stem).lower()


def _stems(dimension: str) -> tuple[str, ...]:
    return (dimension, *(name for name, benchmark in BENCHMARKS.items() if benchmark.dimension == dimension))
