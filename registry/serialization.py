"""Steering vectors and probes as safetensors: a tensor, a header of strings, and nothing that can run.

Schema version 2. A vector's file has the tensor ``direction``, a probe's ``weights``, float32 of one axis; the header
has ``schema_version``, ``kind``, the numbers as ``repr`` of a Python float, every field of the lineage, and the
``digest`` of all this, so that a bit that changed anywhere is noticed. Version 1, without a digest, is still read.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from .errors import CorruptFile, InvalidInput, Mismatch
from .vectors import Lineage, LinearProbe, SteeringVector

SCHEMA_VERSION = "2"
UNSEALED_VERSION = "1"
LARGEST_FILE_BYTES = 64 << 20
_TENSORS = {"steering-vector": "direction", "linear-probe": "weights"}


def vector_to_bytes(vector: SteeringVector) -> bytes:
    numbers = {
        "scale": vector.scale,
        "mean_difference_norm": vector.mean_difference_norm,
        "projection_mean": vector.projection_mean,
    }
    header = _header("steering-vector", vector.dimension, vector.layer, vector.lineage, numbers)
    return _sealed(header, "direction", vector.direction)


def vector_from_bytes(content: bytes, *, d_model: int | None = None) -> SteeringVector:
    """Read a vector back. Raises ``CorruptFile``, or ``Mismatch`` for a width other than ``d_model``."""
    header, direction = _read(content, "steering-vector", d_model)
    try:
        return SteeringVector(
            dimension=header["dimension"],
            direction=direction,
            scale=float(header["scale"]),
            layer=int(header["layer"]),
            lineage=Lineage.from_strings(header),
            mean_difference_norm=float(header["mean_difference_norm"]),
            projection_mean=float(header["projection_mean"]),
        )
    except KeyError as error:
        raise CorruptFile(f"the file is no steering vector: its header lacks {error}") from error
    except (ValueError, InvalidInput) as error:
        raise CorruptFile(f"the file is no steering vector: {error}") from error


def probe_to_bytes(probe: LinearProbe) -> bytes:
    header = _header("linear-probe", probe.dimension, probe.layer, probe.lineage, {"bias": probe.bias})
    return _sealed(header, "weights", probe.weights)


def probe_from_bytes(content: bytes, *, d_model: int | None = None) -> LinearProbe:
    """Read a probe back. Raises as ``vector_from_bytes`` does."""
    header, weights = _read(content, "linear-probe", d_model)
    try:
        return LinearProbe(
            header["dimension"], int(header["layer"]), weights, float(header["bias"]), Lineage.from_strings(header)
        )
    except KeyError as error:
        raise CorruptFile(f"the file is no linear probe: its header lacks {error}") from error
    except (ValueError, InvalidInput) as error:
        raise CorruptFile(f"the file is no linear probe: {error}") from error


def _header(kind: str, dimension: str, layer: int, lineage: Lineage, numbers: Mapping[str, float]) -> dict[str, str]:
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "dimension": dimension,
        "layer": str(layer),
        **{name: repr(float(value)) for name, value in numbers.items()},
        **lineage.to_strings(),
    }


def _sealed(header: Mapping[str, str], name: str, values: Float32[np.ndarray, " d_model"]) -> bytes:
    tensor = np.ascontiguousarray(values, "<f4")
    return _canonical(save({name: tensor}, metadata={**header, "digest": content_digest(header, tensor.tobytes())}))


def _canonical(content: bytes) -> bytes:
    """The same file with its header in order of name: safetensors writes it in another order every time."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    padded = header + b" " * (-len(header) % 8)
    return struct.pack("<Q", len(padded)) + padded + content[8 + length :]


def content_digest(header: Mapping[str, str], tensor: bytes) -> str:
    """SHA-256 of the header's other fields, in order of name, and of the tensor's bytes."""
    fields = sorted((name, value) for name, value in header.items() if name != "digest")
    return hashlib.sha256(json.dumps(fields).encode() + tensor).hexdigest()


def _read(content: bytes, kind: str, d_model: int | None) -> tuple[Mapping[str, str], Float32[np.ndarray, " d_model"]]:
    if len(content) > LARGEST_FILE_BYTES:
        raise CorruptFile(f"the file has {len(content)} bytes; no {kind} has more than {LARGEST_FILE_BYTES}")
    try:
        tensors: dict[str, dict[str, Any]] = dict(deserialize(content))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CorruptFile(f"the file is not safetensors, or it is damaged: {error}") from error
    header = _header_of(content)
    version = header.get("schema_version")
    if version not in (SCHEMA_VERSION, UNSEALED_VERSION):
        readable = f"{UNSEALED_VERSION!r} and {SCHEMA_VERSION!r}"
        raise CorruptFile(f"the file has schema version {version!r} and this program reads {readable}")
    name = _TENSORS[kind]
    if header.get("kind") != kind or set(tensors) != {name}:
        raise CorruptFile(f"the file holds a {header.get('kind')} with tensors {sorted(tensors)}, not a {kind}")
    element_type, shape = tensors[name]["dtype"], tuple(tensors[name]["shape"])
    if element_type != "F32" or len(shape) != 1:
        raise CorruptFile(f"{name} has type {element_type} and shape {shape}; it must have type F32 and one axis")
    if version != UNSEALED_VERSION and header.get("digest") != content_digest(header, bytes(tensors[name]["data"])):
        raise CorruptFile(f"the {kind} is damaged: its file is not the one that was written; register it again")
    if d_model is not None and shape != (d_model,):
        raise Mismatch(f"the {kind} has shape {shape} and the model has d_model {d_model}")
    return header, np.frombuffer(tensors[name]["data"], np.dtype("<f4"))


def _header_of(content: bytes) -> Mapping[str, str]:
    """The string header, which the safetensors reader for bytes checks and does not return."""
    (length,) = struct.unpack_from("<Q", content)
    metadata: Mapping[str, str] | None = json.loads(content[8 : 8 + length]).get("__metadata__")
    return metadata or {}
