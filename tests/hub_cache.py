"""A local cache as huggingface_hub lays it out, with revisions of a repository that is on no hub."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def fill_cache(cache: Path, repo: str, revisions: Mapping[str, Path]) -> Path:
    """The repository's folder below ``cache``, with each directory as a revision; like files are stored once."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    for revision, directory in revisions.items():
        commit = hashlib.sha1(revision.encode()).hexdigest()
        snapshot = folder / "snapshots" / commit
        for path in (snapshot, folder / "blobs", folder / "refs"):
            path.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
        for path in directory.iterdir():
            content = path.read_bytes()
            blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
            blob.write_bytes(content)
            (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return folder
