"""Shared folder: where the workers of one service keep their metrics and what administrators changed, with room for it.

Metrics are written through memory, and a disk that is full then ends a process by a signal, without a word. So each
worker takes the room for all that its metrics may need before it counts anything.
"""

import os
from pathlib import Path
from tempfile import mkdtemp

from registry.errors import no_temporary_folder

SIZES = {"counter": 1 << 19, "histogram": 1 << 18, **dict.fromkeys(("livesum", "livemax", "livemin"), 1 << 16)}
"""Bytes of a worker's file of each kind: more than all routes with all statuses, and fifty dimensions, have."""


def make_folder() -> str:
    """A new one. Exits with one sentence where there can be none."""
    try:
        return mkdtemp(prefix="trusttrace-")
    except OSError as error:
        raise SystemExit(no_temporary_folder(error.strerror or str(error))) from error


def take_room(folder: Path, processes: int | None = None) -> None:
    """Take the room for the metrics of this process, or try whether so many have it. Exits with one sentence."""
    owners = [str(os.getpid())] if processes is None else [f"room-{number}" for number in range(processes)]
    paths = {folder / f"{_name(kind)}_{owner}.db": size for owner in owners for kind, size in SIZES.items()}
    try:
        for path, size in paths.items():
            if not path.exists():
                path.write_bytes(bytes(size))
    except OSError as error:
        for path in paths:
            path.unlink(missing_ok=True)
        raise SystemExit(
            f"{folder.parent} has no room for {sum(paths.values()) >> 10} KiB of metrics ({error.strerror}); free some "
            "there, or set TMPDIR to another folder"
        ) from error
    if processes is not None:
        for path in paths:
            path.unlink()


def _name(kind: str) -> str:
    """As prometheus_client names its files."""
    return f"gauge_{kind}" if kind.startswith("live") else kind
