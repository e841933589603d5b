"""SQLite files: where one cannot be, told at once, and one process at a time that makes one."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import make_url

from registry.errors import Unavailable, redacted

SQLITE = b"SQLite format 3\0"
"""The beginning of every file that holds anything."""


def require_database(address: str) -> None:
    """Raise ``Unavailable`` for a place where SQLite can have no file: MLflow tries for a minute and a half to."""
    if not address.startswith("sqlite"):
        return
    url = make_url(address)
    path = Path(url.database or "")
    if url.host or str(path).startswith("file:"):
        return
    if str(path) in (".", ":memory:"):
        reason, other = "what it keeps in memory is gone with this process", "mlflow.db"
    elif path.is_dir():
        reason, other = f"{path} is a folder", f"{path}/mlflow.db"
    elif path.is_symlink() and not path.resolve().parent.is_dir():
        reason, other = f"{path} leads to {path.resolve()}, whose folder does not exist", "mlflow.db"
    elif path.is_file() and not _may_be_sqlite(path):
        reason, other = f"{path} is not a database", "mlflow.db"
    else:
        return
    raise Unavailable(
        redacted(f"the MLflow registry at {address} does not answer: {reason}; set MLFLOW_TRACKING_URI")
        + f" to a file such as sqlite:///{other}"
    )


@contextmanager
def in_turn(address: str, seconds: float = 60.0) -> Iterator[None]:
    """Let one process alone make the tables of a new SQLite file: two that do it at once break off each other's.

    By a lock on the file's folder, which every process of this project takes before it opens the file. Where a file
    system has none, or another process keeps it for too long, nobody waits.
    """
    path = Path(make_url(address).database or "") if address.startswith("sqlite") else None
    if path is None or not path.parent.is_dir():
        yield
        return
    is_new = not path.is_file() or not path.stat().st_size
    folder, deadline = os.open(path.parent, os.O_RDONLY), time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(folder, fcntl.LOCK_NB | (fcntl.LOCK_EX if is_new else fcntl.LOCK_SH))
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield
    finally:
        os.close(folder)


def _may_be_sqlite(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(SQLITE)) in (SQLITE, b"")
    return True
