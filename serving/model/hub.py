"""Hub: the revisions of a repository and the files of each, listed once, fetched whole, and deleted again.

The listing of a series is kept on disk with the commit of every revision, and that of a commit for good.
"""

import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.file_download import repo_folder_name
from tqdm import tqdm

from registry.cache import cache_root, write_whole
from registry.errors import CorruptFile, NotFound, Unavailable
from serving.model.content import git_digest_of, sha256_of
from serving.model.hub_calls import LOCAL, AccessRefused, in_words, pages, tried

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
    """The git digest of the content, or of what stands in the repository for a large file."""

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> "HubFile":
        """A file as the hub's listing of a commit writes it."""
        large = entry.get("lfs")
        return cls(_inside(entry["path"]), int(entry["size"]), large["oid"] if large else None, entry["oid"])

    def has_content(self, path: Path) -> bool:
        """Whether the file at ``path`` is what was listed."""
        if self.sha256 is not None:
            return sha256_of(path) == self.sha256
        return not _is_commit(self.blob) or git_digest_of(path) == self.blob


@dataclass(frozen=True)
class Revisions:
    """Branches and tags of a repository with their commits."""

    commits: Mapping[str, str]
    ambiguous: tuple[str, ...] = ()
    """Names of a branch and a tag of different commits, which ``commits`` does not have."""
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
        revisions = tried(lambda: _revisions(next(pages(f"models/{repo}/refs"))), repo)
    except Unavailable as error:
        listing = _read(kept)
        if listing is None or isinstance(error, AccessRefused):
            raise
        logger.warning("%s: the listing of %s that was kept is used", error, time.ctime(kept.stat().st_mtime))
        return Revisions(listing)
    write_whole(kept, json.dumps(revisions.commits))
    return revisions


def _revisions(answer: Mapping[str, Any]) -> Revisions:
    """What the hub lists. Raises ``ValueError`` for commits that are none, and for names that lead out of the cache."""
    branches, tags = (
        {_inside(ref["name"]): str(ref["targetCommit"]) for ref in answer[kind]} for kind in ("branches", "tags")
    )
    ambiguous = tuple(name for name in branches if tags.get(name, branches[name]) != branches[name])
    commits = {name: commit for name, commit in {**branches, **tags}.items() if name not in ambiguous}
    for commit in commits.values():
        if not _is_commit(commit):
            raise ValueError(f"{commit!r} is no commit")
    return Revisions(commits, ambiguous)


def _inside(name: str) -> str:
    """``name``, which becomes a path in the cache. Raises ``ValueError`` for one that leads out of it."""
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"{name!r} is no name of a revision or file")
    return name


def commit_of(repo: str, revision: str, *, anew: bool = False) -> str:
    """The commit of a revision: by the last listing, or by the cache; with ``anew`` the hub is asked.

    Raises ``NotFound`` and ``Unavailable``.
    """
    if _is_commit(revision):
        return revision
    if constants.HF_HUB_OFFLINE:
        cached = _cached_commits(repo)
        if revision not in cached:
            raise in_words(OfflineModeIsEnabled(), repo, f"{repo}@{revision}")
        return cached[revision]
    known = {} if anew else known_revisions(repo)
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
    if listing is not None and listing["files"]:
        return tuple(HubFile(**fields) for fields in listing["files"])
    if constants.HF_HUB_OFFLINE:
        return _cached_files(snapshot(repo, commit))
    files = tried(lambda: _files(repo, commit), repo, revision)
    write_whole(kept, json.dumps({"files": [asdict(file) for file in files]}))
    return files


def _files(repo: str, commit: str) -> tuple[HubFile, ...]:
    entries = [entry for page in pages(f"models/{repo}/tree/{commit}", recursive="true") for entry in page]
    files = tuple(HubFile.from_entry(entry) for entry in entries if entry["type"] == "file")
    if not files:
        raise ValueError("an empty list of files")
    return files


def fetch_file(repo: str, revision: str, file: HubFile) -> Path:
    """A file of a revision in the local cache, fetched if need be; a damaged copy is deleted and fetched once more.

    Raises ``CorruptFile`` where that is damaged too, and for a damaged copy offline; ``NotFound`` and ``Unavailable``.
    """
    for _ in range(2):
        path = _fetched(repo, revision, file.path)
        if file.has_content(path):
            return path
        if constants.HF_HUB_OFFLINE:
            raise CorruptFile(
                f"{path} is damaged: its digest is not the hub's {file.sha256 or file.blob}; unset HF_HUB_OFFLINE, and "
                "it is fetched again"
            )
        remove(path)
    raise CorruptFile(
        f"{file.path} of {repo}@{revision} was damaged twice on its way: its digest is not the hub's "
        f"{file.sha256 or file.blob}; check the disk and the network"
    )


def _fetched(repo: str, revision: str, name: str) -> Path:
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
    if not cached.is_file():
        raise Unavailable(f"{constants.ENDPOINT} gave {name} of another commit than {repo}@{commit}; mend HF_ENDPOINT")
    if revision != commit:  # so that it is found offline
        ref = cache_folder(repo) / "refs" / revision
        with suppress(OSError):  # a name that is too long, or the folder of others
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
    return {
        revision: commit
        for revision, commit in sorted(found.items())
        if _is_commit(commit) and snapshot(repo, commit).is_dir()
    }


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
