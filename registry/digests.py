"""Digests of files: what names weights and packages by their content."""

import hashlib
from collections.abc import Sequence
from pathlib import Path


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def joined_sha256(digests: Sequence[str]) -> str:
    """One digest for weights in several files, given theirs in order of name; a single file keeps its own."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
