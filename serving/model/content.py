"""Content digests: files named by what they hold, each read once as long as its size and date stay the same."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from registry.cache import cache_root, write_whole
from registry.digests import file_sha256

WORTH_KEEPING = 1 << 26
"""Bytes from which a digest outlives the process: reading 64 MB takes about as long as starting Python."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    content = path.resolve()
    state = content.stat()
    return _sha256(content, state.st_size, state.st_mtime_ns)


def git_digest_of(path: Path) -> str:
    """The name that git gives a file's content, as the hub lists small files."""
    content = path.resolve()
    state = content.stat()
    return _git_digest(content, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _git_digest(path: Path, size: int, _modified: int) -> str:
    return hashlib.sha1(b"blob %d\0" % size + path.read_bytes(), usedforsecurity=False).hexdigest()


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, modified: int) -> str:
    if size < WORTH_KEEPING:
        return file_sha256(path)
    kept = cache_root() / "digests" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    try:
        entry = json.loads(kept.read_text())
        if (entry["size"], entry["modified"]) == (size, modified):
            return str(entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = file_sha256(path)
    write_whole(kept, json.dumps({"size": size, "modified": modified, "sha256": digest}))
    return digest
