"""Pack folder: a pack as plain files, written whole and read with suspicion.

    pack.json                                manifest: format, model, and every other file with its size and SHA-256
    README.md                                card, in the layout of the Hugging Face hub
    vectors/<dimension>/vector.safetensors   beside it record.json and, where there is a probe, probe.safetensors
    gguf/<dimension>.gguf                    control vector for llama.cpp at the recommended strength

Equal packs are equal bytes, and the SHA-256 of the manifest names a pack. Nothing in it can run. Names, sizes and
digests are checked before a value is made of any file.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from registry.counts import counted
from registry.errors import CorruptFile, InvalidInput, NotFound, TrustTraceError, Unavailable
from registry.pack_card import card
from registry.pack_record import AGAIN, json_object, to_json_bytes, vector_files, vector_from_files
from registry.packs import MOST_VECTORS, Pack, PackedModel, PackedVector
from registry.serialization import LARGEST_FILE_BYTES

FORMAT = "trusttrace-pack"
FORMAT_VERSION = 1
MANIFEST = "pack.json"
CARD = "README.md"
LARGEST_MANIFEST_BYTES = 1 << 20
MOST_FILES = 4 * MOST_VECTORS + 1
_NAME = re.compile(r"(?:\w[\w.-]{0,99}/){0,2}\w[\w.-]{0,99}")


@dataclass(frozen=True, eq=False)
class StoredPack:
    """A pack in a folder whose files were verified."""

    pack: Pack
    digest: str
    """SHA-256 of the manifest, which holds those of all other files."""
    directory: Path


def pack_files(pack: Pack) -> dict[str, bytes]:
    """Every file of a pack by its path in the folder, the manifest last."""
    files = {CARD: card(pack).encode()}
    for packed in pack.vectors:
        files |= vector_files(packed, pack.model.architecture)
    manifest = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "model": asdict(pack.model),
        "vectors": [packed.dimension for packed in pack.vectors],
        "files": {name: {"sha256": _sha256(content), "bytes": len(content)} for name, content in files.items()},
    }
    return {**files, MANIFEST: to_json_bytes(manifest)}


def write_pack(pack: Pack, directory: Path) -> StoredPack:
    """The pack as ``directory``, which appears whole or not at all; an older pack there is replaced.

    Raises ``InvalidInput`` where something else is in the way, ``Unavailable`` where nothing can be written.
    """
    require_replaceable(directory)
    files = pack_files(pack)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            whole = scratch / "pack"
            for name, content in files.items():
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                (whole / name).write_bytes(content)
            if directory.exists():
                os.replace(directory, scratch / "replaced")
            os.replace(whole, directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise Unavailable(f"{directory} cannot be written ({error.strerror}); give another folder as `to`") from error
    return StoredPack(pack, _sha256(files[MANIFEST]), directory)


def require_replaceable(directory: Path) -> None:
    """Raise ``InvalidInput`` where anything is in the way but the files of a pack, damaged or of any version."""
    if not directory.exists() or _is_empty(directory):
        return
    try:
        manifest = json_object(_read(directory, MANIFEST, LARGEST_MANIFEST_BYTES), MANIFEST)
    except (CorruptFile, Unavailable):
        manifest = {}
    if manifest.get("format") != FORMAT:
        raise InvalidInput(f"{directory} holds something that is no pack; give another folder as `to`")
    files = manifest.get("files")
    own = {MANIFEST, *(files if isinstance(files, dict) else ())}
    paths = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    others = sorted({str(path.relative_to(directory)) for path in paths} - own)
    if others:
        raise InvalidInput(
            f"{directory} is a pack with files of others in it, such as {others[0]}, which would be deleted; move "
            "them, or give another folder as `to`"
        )


def read_pack(directory: Path) -> StoredPack:
    """The pack in ``directory``, every file verified.

    Raises ``NotFound`` where none is, ``CorruptFile`` for files that are not those that were written or are too large,
    for a format that this version does not read, and for names that lead elsewhere.
    """
    if not (directory / MANIFEST).is_file():
        raise NotFound(f"{directory} holds no {MANIFEST}, so it is no pack; {AGAIN}")
    content = _read(directory, MANIFEST, LARGEST_MANIFEST_BYTES)
    manifest = json_object(content, MANIFEST)
    if manifest.get("format") != FORMAT or manifest.get("version") != FORMAT_VERSION:
        raise CorruptFile(
            f"{directory} has the format {manifest.get('format')!r}, version {manifest.get('version')!r}, and this "
            f"program reads {FORMAT!r}, version {FORMAT_VERSION}; export the pack with this version, or use its own"
        )
    try:
        files = {name: _verified(directory, name, told) for name, told in _listed(manifest).items()}
        model = PackedModel(**manifest["model"])
        pack = Pack(model, tuple(_read_vector(directory, files, str(name)) for name in manifest["vectors"]))
    except CorruptFile:
        raise
    except (TrustTraceError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CorruptFile(f"{directory} is no pack that can be read ({_reason(error)}); {AGAIN}") from error
    return StoredPack(pack, _sha256(content), directory)


def _read_vector(directory: Path, files: Mapping[str, bytes], dimension: str) -> PackedVector:
    """One vector. Raises ``CorruptFile`` with what mends a pack in the place of what mends a registered version."""
    try:
        return vector_from_files(files, dimension)
    except CorruptFile as error:
        reason = str(error).rpartition(";")[0] or str(error)
        raise CorruptFile(f"{directory} has a vector for {dimension} that is damaged ({reason}); {AGAIN}") from error


def _listed(manifest: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The files that a manifest lists. Raises ``CorruptFile`` for names that lead out of the folder, or too many."""
    listed: Mapping[str, Mapping[str, Any]] = manifest["files"]
    if len(listed) > MOST_FILES:
        raise CorruptFile(
            f"the manifest lists {counted(len(listed), 'file')} and no pack has more than {MOST_FILES}; {AGAIN}"
        )
    for name in listed:
        if not _NAME.fullmatch(name) or name == MANIFEST:
            raise CorruptFile(f"the manifest lists {name!r}, which is no file of a pack; {AGAIN}")
    return listed


def _verified(directory: Path, name: str, listed: Mapping[str, Any]) -> bytes:
    content = _read(directory, name, LARGEST_FILE_BYTES)
    if (len(content), _sha256(content)) != (listed["bytes"], listed["sha256"]):
        raise CorruptFile(f"{name} of {directory} is not the file that was written: its SHA-256 differs; {AGAIN}")
    return content


def _read(directory: Path, name: str, most: int) -> bytes:
    path = directory / name
    if not _is_within(path, directory):
        raise CorruptFile(f"{name} of {directory} leads out of the folder; copy the pack with: cp -rL")
    if not path.is_file():
        raise CorruptFile(f"{directory} lacks {name}, which its manifest lists; {AGAIN}")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror}); let this user read it") from error
    if len(content) > most:
        raise CorruptFile(f"{name} of {directory} has more than {most} bytes, and no file of a pack has; {AGAIN}")
    return content


def _is_within(path: Path, directory: Path) -> bool:
    try:
        return path.resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError):  # links that lead to each other
        return False


def _reason(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())
