"""Pack folder: a pack as plain files, written whole and read with suspicion.

    pack.json                                manifest: format, model, and every other file with its size and SHA-256
    README.md                                card, in the layout of the Hugging Face hub
    vectors/<dimension>/vector.safetensors   beside it record.json and, where there is a probe, probe.safetensors
    gguf/<dimension>.gguf                    control vector for llama.cpp at the recommended strength

Equal packs are equal bytes, and the SHA-256 of the manifest names a pack. Nothing in it can run. Names, sizes and
digests are checked before a value is made of any file.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from registry.calibration import Calibration
from registry.checkpoints import Checkpoint
from registry.errors import CorruptFile, InvalidInput, NotFound, TrustTraceError, Unavailable
from registry.examples import Example
from registry.gguf import vector_to_gguf
from registry.pack_card import card
from registry.packs import MOST_VECTORS, Pack, PackedModel, PackedVector
from registry.serialization import (
    LARGEST_FILE_BYTES,
    probe_from_bytes,
    probe_to_bytes,
    vector_from_bytes,
    vector_to_bytes,
)

FORMAT = "trusttrace-pack"
FORMAT_VERSION = 1
MANIFEST = "pack.json"
CARD = "README.md"
LARGEST_MANIFEST_BYTES = 1 << 20
MOST_FILES = 4 * MOST_VECTORS + 1
_NAME = re.compile(r"(?:\w[\w.-]{0,99}/){0,2}\w[\w.-]{0,99}")
_AGAIN = "fetch the pack again, or make one: mlflow run . -e export --env-manager local -P model=…"


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
        files |= _vector_files(packed, pack.model.architecture)
    manifest = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "model": asdict(pack.model),
        "vectors": [packed.dimension for packed in pack.vectors],
        "files": {name: {"sha256": _sha256(content), "bytes": len(content)} for name, content in files.items()},
    }
    return {**files, MANIFEST: _json(manifest)}


def write_pack(pack: Pack, directory: Path) -> StoredPack:
    """The pack as ``directory``, which appears whole or not at all; an older pack there is replaced.

    Raises ``InvalidInput`` where something else is in the way, ``Unavailable`` where nothing can be written.
    """
    if directory.exists() and not (directory / MANIFEST).is_file() and not _is_empty(directory):
        raise InvalidInput(f"{directory} holds something that is no pack; give another folder as `to`")
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


def read_pack(directory: Path) -> StoredPack:
    """The pack in ``directory``, every file verified.

    Raises ``NotFound`` where none is, ``CorruptFile`` for files that are not those that were written or are too large,
    for a format that this version does not read, and for names that lead elsewhere.
    """
    if not (directory / MANIFEST).is_file():
        raise NotFound(f"{directory} holds no {MANIFEST}, so it is no pack; {_AGAIN}")
    content = _read(directory, MANIFEST, LARGEST_MANIFEST_BYTES)
    manifest = _object(content, MANIFEST)
    if manifest.get("format") != FORMAT or manifest.get("version") != FORMAT_VERSION:
        raise CorruptFile(
            f"{directory} has the format {manifest.get('format')!r}, version {manifest.get('version')!r}, and this "
            f"program reads {FORMAT!r}, version {FORMAT_VERSION}; export the pack with this version, or use its own"
        )
    try:
        files = {name: _verified(directory, name, told) for name, told in _listed(manifest).items()}
        model = PackedModel(**manifest["model"])
        pack = Pack(model, tuple(_packed(files, str(dimension)) for dimension in manifest["vectors"]))
    except CorruptFile:
        raise
    except (TrustTraceError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFile(f"{directory} is no pack that can be read ({_reason(error)}); {_AGAIN}") from error
    return StoredPack(pack, _sha256(content), directory)


def _vector_files(packed: PackedVector, architecture: str) -> dict[str, bytes]:
    folder = f"vectors/{packed.dimension}"
    files = {f"{folder}/vector.safetensors": vector_to_bytes(packed.vector), f"{folder}/record.json": _record(packed)}
    if packed.probe is not None:
        files[f"{folder}/probe.safetensors"] = probe_to_bytes(packed.probe)
    # llama.cpp steers no layer 0, and a vector that does not work has no strength to be exported at.
    if packed.recommended > 0 and packed.vector.layers[0] > 0:
        files[f"gguf/{packed.dimension}.gguf"] = vector_to_gguf(
            packed.vector, packed.recommended, model_hint=architecture
        )
    return files


def _record(packed: PackedVector) -> bytes:
    calibration, example = packed.calibration, packed.example
    return _json(
        {
            "origin": packed.origin,
            "unit_digest": packed.unit_digest,
            "checkpoint": asdict(packed.checkpoint),
            "calibration": None if calibration is None else json.loads(calibration.to_json()),
            "champion_because": packed.because,
            "summary": packed.summary,
            "example": None if example is None else asdict(example),
            "tags": dict(packed.tags),
            "metrics": {name: value for name, value in packed.metrics.items() if math.isfinite(value)},
        }
    )


def _packed(files: Mapping[str, bytes], dimension: str) -> PackedVector:
    folder = f"vectors/{dimension}"
    vector = vector_from_bytes(files[f"{folder}/vector.safetensors"])
    if vector.dimension != dimension:
        raise CorruptFile(f"{folder} holds a vector for {vector.dimension}; {_AGAIN}")
    probe = files.get(f"{folder}/probe.safetensors")
    record = _object(files[f"{folder}/record.json"], f"{folder}/record.json")
    calibration, example = record["calibration"], record["example"]
    packed = PackedVector(
        vector,
        None if probe is None else probe_from_bytes(probe),
        Checkpoint(**record["checkpoint"]),
        _text(record["unit_digest"]),
        _text(record["origin"]),
        None if calibration is None else Calibration.from_json(json.dumps(calibration)),
        _text(record["champion_because"]),
        _text(record["summary"]),
        None if example is None else Example.from_json(json.dumps(example)),
        {_text(name): _text(value) for name, value in record["tags"].items()},
        {_text(name): float(value) for name, value in record["metrics"].items()},
    )
    registered = packed.registered
    registered.text_verdict, registered.joint_limit  # noqa: B018 — they raise where they cannot be read
    return packed


def _listed(manifest: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The files that a manifest lists. Raises ``CorruptFile`` for names that lead out of the folder, or too many."""
    listed: Mapping[str, Mapping[str, Any]] = manifest["files"]
    if len(listed) > MOST_FILES:
        raise CorruptFile(f"the manifest lists {len(listed)} files and no pack has more than {MOST_FILES}; {_AGAIN}")
    for name in listed:
        if not _NAME.fullmatch(name) or name == MANIFEST:
            raise CorruptFile(f"the manifest lists {name!r}, which is no file of a pack; {_AGAIN}")
    return listed


def _verified(directory: Path, name: str, listed: Mapping[str, Any]) -> bytes:
    content = _read(directory, name, LARGEST_FILE_BYTES)
    if (len(content), _sha256(content)) != (listed["bytes"], listed["sha256"]):
        raise CorruptFile(f"{name} of {directory} is not the file that was written: its SHA-256 differs; {_AGAIN}")
    return content


def _read(directory: Path, name: str, most: int) -> bytes:
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise CorruptFile(f"{name} of {directory} leads out of the folder; copy the pack with: cp -rL")
    if not path.is_file():
        raise CorruptFile(f"{directory} lacks {name}, which its manifest lists; {_AGAIN}")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror}); let this user read it") from error
    if len(content) > most:
        raise CorruptFile(f"{name} of {directory} has more than {most} bytes, and no file of a pack has; {_AGAIN}")
    return content


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        read = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{name} is no JSON that can be read; {_AGAIN}") from error
    if not isinstance(read, dict):
        raise CorruptFile(f"{name} is no JSON object; {_AGAIN}")
    return read


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _reason(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())
