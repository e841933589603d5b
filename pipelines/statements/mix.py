"""Mix of sources: which source each dimension has in ``toxicity=./mine.csv,privacy=packaged``."""

import unicodedata
from pathlib import Path

from registry.errors import InvalidInput


def parse_mix(data: str) -> dict[str, str] | None:
    """Sources by dimension, in the order given; ``None`` where ``data`` is one source for all.

    A path may hold commas and equals signs: the longest path that exists is taken. Raises ``InvalidInput`` for a
    dimension that is named twice, and for a part that names none.
    """
    if Path(data).expanduser().exists() or _name(data) is None:
        return None
    parts = data.split(",")
    sources: dict[str, str] = {}
    start = 0
    while start < len(parts):
        if not parts[start].strip():
            start += 1
            continue
        end = _end(parts, start)
        name, _, source = ",".join(parts[start:end]).partition("=")
        name = unicodedata.normalize("NFC", name.strip())
        if not name.isidentifier():
            raise InvalidInput(
                f"data {data!r} has the part {','.join(parts[start:end])!r}, which begins with no name of a dimension; "
                "write such as toxicity=./mine.csv"
            )
        if name in sources:
            raise InvalidInput(f"data {data!r} names {name} twice; give each dimension one source")
        if not source.strip():
            raise InvalidInput(f"data {data!r} names no source for {name}; give one, such as {name}=packaged")
        sources[name] = source.strip()
        start = end
    return sources


def _end(parts: list[str], start: int) -> int:
    """Where the source that begins at ``start`` ends: behind the longest path that exists, else at the next name."""
    for end in range(len(parts), start, -1):
        source = ",".join(parts[start:end]).partition("=")[2].strip()
        if source and Path(source).expanduser().exists():
            return end
    return next((end for end in range(start + 1, len(parts)) if _name(parts[end])), len(parts))


def _name(part: str) -> str | None:
    """The dimension that ``part`` gives a source, or ``None`` where it gives none."""
    name, equals, _ = part.partition("=")
    return name.strip() if equals and name.strip().isidentifier() else None
