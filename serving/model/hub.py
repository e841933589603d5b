"""Hub: the revisions of a repository and the files of each, listed once, fetched whole, and deleted again.

The listing of a series is kept on disk with the commit of every revision, and that of a commit for good.
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from tqdm import tqdm

from registry.cache import cache_root, write_whole
from registry.errors import NotFound, Unavailable
from serving.model.hub_calls import LOCAL, AccessRefused, in_words, tried

logger = logging.getLogger(__name__)

ABANDONED = 3600
"""Seconds after which a partial download is nobody's."""


@dataclass(frozen=True)
class HubFile:
    """A file of one commit, as the hub lists it."""

    path: str
    size: int
    sha256: str | None
    """Of the content, for a large file; small ones have a git digest alone."""
    blob: str


@dataclass(frozen=True)
class Revisions:
    """Branches and tags of a repository with their commits."""

    commits: Mapping[str, str]
    stale: bool = False
    """Whether the hub could not be asked, so that this is the last listing kept."""
    cached_only: bool = False
    """Whether it is no listing, but what lies in the local cache."""


def is_on_hub(repo: str) -> bool:
    return not repo.startswith("packaged:") and not Path(repo).is_absolute()


def list_revisions(repo: str) -> Revisions:
    """The revisions of ``repo``. When the hub cannot be reached: the last listing kept; offline: those in the cache.

    Raises ``Unavailable`` with the cause where there is neither: what happens to be cached is no series.
    """
    kept = _listing_file(repo, "revisions")
    if constants.HF_HUB_OFFLINE:
        commits = _cached_commits(repo)
        if not commits:
            raise Unavailable(
                f"the hub could not be reached to list the revisions of {repo!r}, as HF_HUB_OFFLINE is set, and no "
                f"revision of it is cached; unset it, or {LOCAL}"
            )
        return Revisions(commits, cached_only=True)
    try:
        refs = tried(lambda: HfApi(endpoint=constants.ENDPOINT).list_repo_refs(repo), repo)
    except Unavailable as error:
        listing = _read(kept)
        if listing is None or isinstance(error, AccessRefused):
            raise
        logger.warning("%s: the listing of %s that was kept is used", error, time.ctime(kept.stat().st_mtime))
        return Revisions(listing, stale=True)
    commits = {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)}
    write_whole(kept, json.dumps(commits))
    return Revisions(commits)


def commit_of(repo: str, revision: str) -> str:
    """The commit of a revision: by the last listing, or by the cache. Raises ``NotFound`` and ``Unavailable``."""
    if _is_commit(revision):
        return revision
    if constants.HF_HUB_OFFLINE:
        cached = _cached_commits(repo)
        if revision not in cached:
            raise in_words(OfflineModeIsEnabled(), repo, f"{repo}@{revision}")
        return cached[revision]
    known = known_revisions(repo)
    listed = known if revision in known else list_revisions(repo).commits
    if revision not in listed:
        raise NotFound(f"{repo} has no revision {revision!r}; checkpoints=all lists those it has")
    return listed[revision]


@lru_cache(maxsize=64)
def _kept_commits(kept: Path, _modified: int) -> Mapping[str, str]:
    return _read(kept) or {}


def known_revisions(repo: str) -> Mapping[str, str]:
    """Revisions with their commits, by the last listing; offline those in the cache."""
    kept = _listing_file(repo, "revisions")
    if not constants.HF_HUB_OFFLINE and kept.is_file():
        return _kept_commits(kept, kept.stat().st_mtime_ns)
    return list_revisions(repo).commits


def last_listing(repo: str) -> Mapping[str, str]:
    """Revisions with their commits as the hub listed them last; none where it never did."""
    return _read(_listing_file(repo, "revisions")) or {}


def list_files(repo: str, revision: str) -> tuple[HubFile, ...]:
    """All files of a revision: of its commit, which never changes, so it is asked for once.

    Offline, and without a listing, they are those in the cache.
    """
    commit = commit_of(repo, revision)
    kept = _listing_file(repo, commit)
    listing = _read(kept)
    if listing is not None:
        return tuple(HubFile(**fields) for fields in listing["files"])
    if constants.HF_HUB_OFFLINE:
        return _cached_files(snapshot(repo, commit))
    api = HfApi(endpoint=constants.ENDPOINT)
    entries = tried(lambda: list(api.list_repo_tree(repo, revision=commit, recursive=True)), repo, revision)
    files = tuple(
        HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
        for entry in entries
        if isinstance(entry, RepoFile)
    )
    write_whole(kept, json.dumps({"files": [asdict(file) for file in files]}))
    return files


def fetch_file(repo: str, revision: str, name: str) -> Path:
    """One file of a revision in the local cache, fetched if need be."""
    commit = commit_of(repo, revision)
    cached = snapshot(repo, commit) / name
    if cached.is_file():
        return cached
    _remove_abandoned(repo)
    tried(
        lambda: hf_hub_download(repo, name, revision=commit, endpoint=constants.ENDPOINT, tqdm_class=DownloadBar),
        repo,
        revision,
    )
    if revision != commit:  # so that it is found offline
        ref = cache_folder(repo) / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)
    return cached


class DownloadBar(tqdm):  # type: ignore[misc]
    """Bytes and rate of one file, for a download that takes longer than a second."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **{**named, "delay": 1, "leave": False})


def cache_folder(repo: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def snapshot(repo: str, commit: str) -> Path:
    """Where the files of a commit lie in the local cache."""
    return cache_folder(repo) / "snapshots" / commit


def remove(path: Path) -> None:
    """Delete a file of a snapshot, and its content unless another snapshot has it too."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    if all(other.resolve() != content for other in path.parent.parent.glob("*/*")):
        content.unlink(missing_ok=True)


def _cached_commits(repo: str) -> dict[str, str]:
    """The revisions of which something lies in the local cache."""
    refs = cache_folder(repo) / "refs"
    found = {str(path.relative_to(refs)): path.read_text().strip() for path in refs.rglob("*") if path.is_file()}
    return {revision: commit for revision, commit in sorted(found.items()) if snapshot(repo, commit).is_dir()}


def _cached_files(directory: Path) -> tuple[HubFile, ...]:
    paths = [path for path in directory.rglob("*") if path.is_file()]
    blobs = {path: path.resolve().name for path in paths}
    return tuple(
        HubFile(str(path.relative_to(directory)), path.stat().st_size, blob if len(blob) == 64 else None, blob)
        for path, blob in blobs.items()
    )


def _remove_abandoned(repo: str) -> None:
    """Partial downloads of processes that were killed are never gone on with: the library names each anew."""
    for path in (cache_folder(repo) / "blobs").glob("*.incomplete"):
        if time.time() - path.stat().st_mtime > ABANDONED:
            path.unlink(missing_ok=True)


def _listing_file(repo: str, name: str) -> Path:
    host = constants.ENDPOINT.partition("://")[2].replace("/", "-").replace(":", "-")
    return cache_root() / "hub" / host / repo_folder_name(repo_id=repo, repo_type="model") / f"{name}.json"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _is_commit(revision: str) -> bool:
    return len(revision) == 40 and set(revision) <= set("0123456789abcdef")
