"""Steering vectors and probes as safetensors: tensors, a header of strings, and nothing that can run.

Schema version 2. A vector's file has the tensor ``direction``, a probe's ``weights``, float32 of one axis; the header
has ``schema_version``, ``kind``, the numbers as ``repr`` of a Python float, every field of the lineage, and the
``digest`` of all this, so that a bit that changed anywhere is noticed. Version 1, without a digest, is still read. A
vector of several layers is of version 3: tensors ``direction.<layer>``, and a number of each kind by layer. A probe of
answers is of version 4: its ``window`` and ``quality`` say how it is read, which an earlier program would not know.
"""

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from .errors import CorruptFile, InvalidInput, Mismatch
from .probe_quality import ProbeQuality
from .vectors import Direction, Lineage, LinearProbe, SteeringVector

SCHEMA_VERSION = "4"
"""Of what this program can read; files that an earlier one can read are written as before."""
UNSEALED_VERSION, SINGLE_VERSION, SEVERAL_VERSION, ANSWERS_VERSION = "1", "2", "3", "4"
LARGEST_FILE_BYTES = 64 << 20
_SINGLE, _SEVERAL, _WEIGHTS = (
    re.compile(name) for name in ("direction", r"direction\.(?:0|[1-9][0-9]{0,5})", "weights")
)
_TENSORS = {
    "steering-vector": {UNSEALED_VERSION: _SINGLE, SINGLE_VERSION: _SINGLE, SEVERAL_VERSION: _SEVERAL},
    "linear-probe": {UNSEALED_VERSION: _WEIGHTS, SINGLE_VERSION: _WEIGHTS, ANSWERS_VERSION: _WEIGHTS},
}
"""The tensors of a file, by kind and schema version."""


def vector_to_bytes(vector: SteeringVector) -> bytes:
    if len(vector.directions) == 1:
        single = vector.single
        header = _header("steering-vector", vector.dimension, vector.lineage, _numbers(single))
        return _sealed({**header, "layer": str(single.layer)}, {"direction": single.unit})
    numbers = {
        f"{name}.{direction.layer}": value
        for direction in vector.directions
        for name, value in _numbers(direction).items()
    }
    header = _header("steering-vector", vector.dimension, vector.lineage, numbers)
    units = {f"direction.{direction.layer}": direction.unit for direction in vector.directions}
    return _sealed({**header, "schema_version": SEVERAL_VERSION}, units)


def vector_from_bytes(content: bytes, *, d_model: int | None = None) -> SteeringVector:
    """Read a vector back. Raises ``CorruptFile``, or ``Mismatch`` for a width other than ``d_model``."""
    header, tensors = _read(content, "steering-vector", d_model)
    try:
        if header["schema_version"] == SEVERAL_VERSION:
            by_layer = {int(name.removeprefix("direction.")): unit for name, unit in tensors.items()}
            directions = [_direction(header, layer, by_layer[layer], f".{layer}") for layer in sorted(by_layer)]
        else:
            directions = [_direction(header, int(header["layer"]), tensors["direction"])]
        return SteeringVector(header["dimension"], tuple(directions), Lineage.from_strings(header))
    except KeyError as error:
        raise CorruptFile(f"the file is no steering vector: its header lacks {error}") from error
    except (ValueError, InvalidInput) as error:
        raise CorruptFile(f"the file is no steering vector: {error}") from error


def _numbers(direction: Direction) -> dict[str, float]:
    return {
        "scale": direction.scale,
        "mean_difference_norm": direction.mean_difference_norm,
        "projection_mean": direction.projection_mean,
    }


def _direction(
    header: Mapping[str, str], layer: int, unit: Float32[np.ndarray, " d_model"], of_layer: str = ""
) -> Direction:
    numbers = (float(header[f"{name}{of_layer}"]) for name in ("scale", "mean_difference_norm", "projection_mean"))
    return Direction(layer, unit, *numbers)


def probe_to_bytes(probe: LinearProbe) -> bytes:
    header = _header("linear-probe", probe.dimension, probe.lineage, {"bias": probe.bias})
    header["layer"] = str(probe.layer)
    if probe.quality is not None:
        read = {"window": str(probe.window), "quality": probe.quality.to_json()}
        header |= {"schema_version": ANSWERS_VERSION, **read}
    return _sealed(header, {"weights": probe.weights})


def probe_from_bytes(content: bytes, *, d_model: int | None = None) -> LinearProbe:
    """Read a probe back. Raises as ``vector_from_bytes`` does."""
    header, tensors = _read(content, "linear-probe", d_model)
    try:
        place, bias, lineage = int(header["layer"]), float(header["bias"]), Lineage.from_strings(header)
        window, quality = 1, None
        if header["schema_version"] == ANSWERS_VERSION:
            window, quality = int(header["window"]), ProbeQuality.from_json(header["quality"])
        return LinearProbe(header["dimension"], place, tensors["weights"], bias, lineage, window, quality)
    except KeyError as error:
        raise CorruptFile(f"the file is no linear probe: its header lacks {error}") from error
    except (ValueError, InvalidInput) as error:
        raise CorruptFile(f"the file is no linear probe: {error}") from error


def _header(kind: str, dimension: str, lineage: Lineage, numbers: Mapping[str, float]) -> dict[str, str]:
    return {
        "schema_version": SINGLE_VERSION,
        "kind": kind,
        "dimension": dimension,
        **{name: repr(float(value)) for name, value in numbers.items()},
        **lineage.to_strings(),
    }


def _sealed(header: Mapping[str, str], tensors: Mapping[str, Float32[np.ndarray, " d_model"]]) -> bytes:
    written = {name: np.ascontiguousarray(values, "<f4") for name, values in tensors.items()}
    digest = content_digest(header, _joined({name: values.tobytes() for name, values in written.items()}))
    return _canonical(save(written, metadata={**header, "digest": digest}))


def _joined(tensors: Mapping[str, bytes]) -> bytes:
    """In order of name."""
    return b"".join(tensors[name] for name in sorted(tensors))


def _canonical(content: bytes) -> bytes:
    """The same file with its header in order of name: safetensors writes it in another order every time."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    padded = header + b" " * (-len(header) % 8)
    return struct.pack("<Q", len(padded)) + padded + content[8 + length :]


def content_digest(header: Mapping[str, str], tensors: bytes) -> str:
    """SHA-256 of the header's other fields, and of the tensors' bytes, both in order of name."""
    fields = sorted((name, value) for name, value in header.items() if name != "digest")
    return hashlib.sha256(json.dumps(fields).encode() + tensors).hexdigest()


def _read(
    content: bytes, kind: str, d_model: int | None
) -> tuple[Mapping[str, str], Mapping[str, Float32[np.ndarray, " d_model"]]]:
    if len(content) > LARGEST_FILE_BYTES:
        raise CorruptFile(f"the file takes {len(content)} B, and no {kind} takes more than {LARGEST_FILE_BYTES}")
    try:
        tensors: dict[str, dict[str, Any]] = dict(deserialize(content))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CorruptFile(f"the file is not safetensors, or it is damaged: {error}") from error
    header = _header_of(content)
    version = header.get("schema_version")
    known = (UNSEALED_VERSION, SINGLE_VERSION, SEVERAL_VERSION, ANSWERS_VERSION)
    if version not in known:
        readable = f"{', '.join(map(repr, known[:-1]))} and {known[-1]!r}"
        raise CorruptFile(f"the file has schema version {version!r} and this program reads {readable}")
    expected = _TENSORS[kind].get(version)
    if header.get("kind") != kind or not tensors or expected is None or not all(map(expected.fullmatch, tensors)):
        raise CorruptFile(f"the file holds a {header.get('kind')} with tensors {sorted(tensors)}, not a {kind}")
    for name, tensor in tensors.items():
        if tensor["dtype"] != "F32" or len(tensor["shape"]) != 1:
            shape = tuple(tensor["shape"])
            raise CorruptFile(
                f"{name} has type {tensor['dtype']} and shape {shape}; it must have type F32 and one axis"
            )
    joined = _joined({name: bytes(tensor["data"]) for name, tensor in tensors.items()})
    if version != UNSEALED_VERSION and header.get("digest") != content_digest(header, joined):
        raise CorruptFile(f"the {kind} is damaged: its file is not the one that was written; register it again")
    shape = next(tuple(tensor["shape"]) for tensor in tensors.values())
    if d_model is not None and shape != (d_model,):
        raise Mismatch(f"the {kind} has shape {shape} and the model has d_model {d_model}")
    return header, {name: np.frombuffer(tensor["data"], np.dtype("<f4")) for name, tensor in tensors.items()}


def _header_of(content: bytes) -> Mapping[str, str]:
    """The string header, which the safetensors reader for bytes checks and does not return."""
    (length,) = struct.unpack_from("<Q", content)
    metadata: Mapping[str, str] | None = json.loads(content[8 : 8 + length]).get("__metadata__")
    return metadata or {}
