"""Pack record: one vector of a pack as files, with all that its registry said of it, and back.

``record.json`` beside a vector holds what no safetensors file has: calibration, example, tags, metrics, checkpoint.
"""

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from registry.calibration import Calibration
from registry.checkpoints import Checkpoint
from registry.embedded import model_argument
from registry.errors import CorruptFile, InvalidInput
from registry.examples import Example
from registry.gguf import vector_to_gguf
from registry.json_record import require_types
from registry.packs import PackedVector
from registry.serialization import probe_from_bytes, probe_to_bytes, vector_from_bytes, vector_to_bytes

AGAIN = "fetch the pack again, or make one: mlflow run . -e export --env-manager local -P model=…"


def vector_files(packed: PackedVector, architecture: str) -> dict[str, bytes]:
    """The files of one vector by their paths in the folder. Raises ``InvalidInput`` as ``_record`` does."""
    folder = f"vectors/{packed.dimension}"
    files = {f"{folder}/vector.safetensors": vector_to_bytes(packed.vector), f"{folder}/record.json": _record(packed)}
    if packed.probe is not None:
        files[f"{folder}/probe.safetensors"] = probe_to_bytes(packed.probe)
    if packed.has_control_vector:
        files[f"gguf/{packed.dimension}.gguf"] = vector_to_gguf(
            packed.vector, packed.recommended, model_hint=architecture
        )
    return files


def vector_from_files(files: Mapping[str, bytes], dimension: str) -> PackedVector:
    """The inverse. Raises ``CorruptFile``, and whatever a value of another kind leads to."""
    folder = f"vectors/{dimension}"
    vector = vector_from_bytes(files[f"{folder}/vector.safetensors"])
    if vector.dimension != dimension:
        raise CorruptFile(f"{folder} holds a vector for {vector.dimension}; {AGAIN}")
    probe = files.get(f"{folder}/probe.safetensors")
    record = json_object(files[f"{folder}/record.json"], f"{folder}/record.json")
    calibration, example = record["calibration"], record["example"]
    packed = PackedVector(
        vector,
        None if probe is None else probe_from_bytes(probe),
        _checkpoint(record["checkpoint"]),
        _text(record["unit_digest"]),
        _text(record["origin"]),
        None if calibration is None else Calibration.from_json(json.dumps(calibration)),
        _text(record["champion_because"]),
        _text(record["summary"]),
        None if example is None else Example.from_json(json.dumps(example)),
        {_tag(name): _text(value) for name, value in record["tags"].items()},
        {_text(name): _finite(value) for name, value in record["metrics"].items()},
    )
    registered = packed.registered
    registered.text_verdict, registered.joint_limit  # noqa: B018 — they raise where they cannot be read
    return packed


def to_json_bytes(value: object) -> bytes:
    """Sorted, so that equal values are equal bytes. Raises ``ValueError`` for NaN and infinity."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def json_object(content: bytes, name: str) -> dict[str, Any]:
    """Raises ``CorruptFile`` for what is no JSON object; ``name`` is the file's."""
    try:
        read = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{name} is no JSON that can be read; {AGAIN}") from error
    if not isinstance(read, dict):
        raise CorruptFile(f"{name} is no JSON object; {AGAIN}")
    return read


def _record(packed: PackedVector) -> bytes:
    """Raises ``InvalidInput`` for a calibration with numbers that JSON does not have, as some of before."""
    calibration, example = packed.calibration, packed.example
    try:
        return to_json_bytes(_record_fields(packed, calibration, example))
    except ValueError as error:
        model = model_argument(packed.vector.lineage.steers)
        raise InvalidInput(
            f"the calibration of {packed.origin} has a number without end, which no pack holds; calibrate it again: "
            f"mlflow run . -e calibrate --env-manager local -P {shlex.quote(f'model={model}')} "
            f"-P dimensions={packed.dimension}"
        ) from error


def _record_fields(packed: PackedVector, calibration: Calibration | None, example: Example | None) -> dict[str, object]:
    return {
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


def _checkpoint(fields: Mapping[str, Any]) -> Checkpoint:
    checkpoint = Checkpoint(**fields)
    require_types(checkpoint)
    return checkpoint


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # half of a character has no bytes
    return value


def _tag(name: object) -> str:
    """The name of a tag, as exports write it: MLflow's own are none of a vector's."""
    if "mlflow." in _text(name):
        raise ValueError(f"it has the tag {name}, which is MLflow's own")
    return _text(name)


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)
