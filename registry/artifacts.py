"""Artifacts of a registered version: only what this project registers, file by file, within a deadline.

Whoever may register a version chooses its source, and a service follows it with its own rights. So a source must be a
logged model, its files are fetched by name after their sizes were seen, and a store that hangs costs one version alone.
"""

import errno
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from registry.errors import (
    FULL,
    CorruptFile,
    Mismatch,
    TrustTraceError,
    Unavailable,
    first_line,
    no_temporary_folder,
    redacted,
)
from registry.serialization import LARGEST_FILE_BYTES

SECONDS = 30.0
"""For all files of a version; they are a few kilobytes."""

_LOGGED_MODEL = re.compile(r"m-[0-9a-f]{32}")
_VERSION = re.compile(r"([^/@:]+)/([0-9]{1,9})")
_MOST_COPIES = 8
_BY_ADDRESS = ("http", "https", "ftp", "sftp")
_GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, shutil.SpecialFileError)
_REFUSED = ("PERMISSION_DENIED", "UNAUTHENTICATED")

Result = TypeVar("Result")


class _TooLate(Exception):
    """Work that is not done when its time is over; not a ``TimeoutError``, which a store may raise itself."""


@contextmanager
def readable(uri: str) -> Iterator[None]:
    """Say whose fault it is that a version cannot be read: ``CorruptFile`` its own, ``Unavailable`` this machine's."""
    try:
        yield
    except TrustTraceError:
        raise
    except MemoryError as error:
        raise Unavailable(f"{uri} could not be read: no memory is left; free some, and try again") from error
    except _GONE as error:
        raise _damaged(uri, error) from error
    except OSError as error:
        raise Unavailable(f"{uri} could not be read here: {_cause(error)}") from error
    except (MlflowException, ValueError) as error:
        if getattr(error, "error_code", "") not in _REFUSED:
            raise _damaged(uri, error) from error
        raise Unavailable(
            f"{uri} may not be read: {first_line(error, 200)}; ask for the right to, or log in"
        ) from error
    except Exception as error:  # of an artifact store's own library
        told = f"{type(error).__name__}: {first_line(error, 200)}"
        raise Unavailable(f"{uri} could not be read ({told}); try again, or register it again") from error


def _damaged(uri: str, error: Exception) -> CorruptFile:
    """Whatever a store raises for a link, a pipe or a file that is gone."""
    return CorruptFile(f"{uri} could not be read ({type(error).__name__}); register it again")


def _cause(error: OSError) -> str:
    """What this machine lacks, and what to do."""
    reason = error.strerror or first_line(error, 200)
    if error.errno in FULL:
        return f"{tempfile.gettempdir()} is full ({reason}); free some room there, or set TMPDIR to another folder"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        place = f" {error.filename}" if error.filename else " the files"
        return f"this user may not use{place} ({reason}); give it the right to"
    return f"{reason}; try again"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone afterwards. Raises ``Unavailable`` where none can be made."""
    try:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    except OSError as error:
        raise Unavailable(no_temporary_folder(first_line(error))) from error
    with folder as path:
        yield Path(path)


def fetch_files(client: MlflowClient, uri: str, model_id: str, names: Sequence[str], directory: Path) -> None:
    """Copy those of ``names`` that the logged model has into ``directory``.

    ``uri`` names the version in messages. Raises ``Mismatch`` for a source that this project does not register,
    ``CorruptFile`` for a file that is too large, ``Unavailable`` when the store cannot be read in time.
    """
    try:
        _within(SECONDS, lambda: _fetch(client, uri, model_id, names, directory))
    except _TooLate as error:
        raise Unavailable(f"the files of {uri} did not come within {SECONDS:g} s; try again") from error
    except TimeoutError as error:
        raise Unavailable(f"the store did not answer for the files of {uri} ({error}); try again") from error


def _fetch(client: MlflowClient, uri: str, model_id: str, names: Sequence[str], directory: Path) -> None:
    location = str(client.get_logged_model(_root(client, uri, model_id)).artifact_location)
    store = _open(uri, location)
    for file in store.list_artifacts(""):
        if file.path in names and not file.is_dir:
            if (file.file_size or 0) > LARGEST_FILE_BYTES:
                raise CorruptFile(
                    f"{file.path} of {uri} has {file.file_size} bytes; none of ours has more than {LARGEST_FILE_BYTES}"
                )
            # `download_artifacts` would list the file as if it were a folder first, and draw a progress bar.
            store._download_file(file.path, str(directory / file.path))  # type: ignore[no-untyped-call]


def _root(client: MlflowClient, uri: str, model_id: str) -> str:
    """The logged model that a version was registered from; MLflow's "Promote model" makes copies of versions."""
    source = model_id
    for _ in range(_MOST_COPIES):
        if _LOGGED_MODEL.fullmatch(source):
            return source
        copied = _VERSION.fullmatch(source)
        if copied is None:
            break
        source = str(client.get_model_version(*copied.groups()).source).removeprefix("models:/")
    raise Mismatch(f"{uri} has the source {redacted(source)!r} and only logged models are read; register it again")


def _open(uri: str, location: str) -> ArtifactRepository:
    scheme, shown = urlsplit(location).scheme, redacted(location)
    if scheme in _BY_ADDRESS and not location.startswith(mlflow.get_tracking_uri().rstrip("/") + "/"):
        raise Mismatch(f"the files of {uri} lie at {shown}, which is not the tracking server; register it again")
    try:
        return get_artifact_repository(location)
    except MlflowException as error:
        raise Unavailable(
            f"the files of {uri} lie at {shown}, and MLflow here cannot read {scheme}: install its plugin for "
            "that, or register the vector again"
        ) from error


def _within(seconds: float, work: Callable[[], Result]) -> Result:
    """What ``work`` returns or raises, or ``_TooLate``; it is then left behind on its thread."""
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="artifacts", daemon=True).start()
    if not wait([outcome], seconds).done:
        raise _TooLate
    return outcome.result()
