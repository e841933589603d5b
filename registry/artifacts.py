"""Artifacts of a registered version: only what this project registers, file by file, within a deadline.

Whoever may register a version chooses its source, and a service follows it with its own rights. So a source must be a
logged model, its files are fetched by name after their sizes were seen, and a store that hangs costs one version alone.
"""

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from registry.errors import CorruptFile, Mismatch, Unavailable, redacted
from registry.serialization import LARGEST_FILE_BYTES

SECONDS = 30.0
"""For all files of a version; they are a few kilobytes."""

_LOGGED_MODEL = re.compile(r"m-[0-9a-f]{32}")
_VERSION = re.compile(r"([^/@:]+)/([0-9]{1,9})")
_MOST_COPIES = 8
_BY_ADDRESS = ("http", "https", "ftp", "sftp")

Result = TypeVar("Result")


class _TooLate(Exception):
    """Work that is not done when its time is over; not a ``TimeoutError``, which a store may raise itself."""


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
