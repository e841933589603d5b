"""GGUF control vectors, which llama.cpp reads and repeng writes: steering vectors out of the registry and into it.

A file has tensors ``direction.<layer>`` that llama.cpp adds to the output of decoder block ``layer``, at every position
of prompt and answer. It counts blocks from 0, as we do, and refuses ``direction.0``: a vector of layer 0 cannot be
exported. A control vector has no scale of its own, so it is exported at a strength; ``--control-vector-scaled``
multiplies the file. repeng's own ``ControlModel`` asks for a direction at each of its layers, so it reads a vector over
those layers and none of fewer. The lineage travels as metadata under ``trusttrace.``, which other readers ignore.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from jaxtyping import Float32

from registry.counts import counted
from registry.errors import CorruptFile, InvalidInput
from registry.gguf_reader import Value, read_gguf
from registry.serialization import LARGEST_FILE_BYTES
from registry.vectors import Direction, Lineage, SteeringVector

ARCHITECTURE = "controlvector"
IMPORT_METHOD = "gguf import"
_PREFIX = "trusttrace."
_TENSOR = re.compile(r"direction\.(0|[1-9][0-9]{0,5})")


def vector_to_gguf(vector: SteeringVector, strength: float = 1.0, *, model_hint: str | None = None) -> bytes:
    """A control vector that does at scale 1 what ``vector`` does at ``strength`` standard deviations.

    ``model_hint`` is the architecture, such as ``llama``; without one the name of the model. Raises ``InvalidInput``
    for layer 0, and for a strength that is not positive: a file always points to the trustworthy side.
    """
    if vector.layers[0] == 0:
        raise InvalidInput("a vector of layer 0 cannot be a control vector: llama.cpp steers layers from 1")
    if not 0 < strength * vector.length < float(np.finfo(np.float32).max):
        raise InvalidInput(f"strength is {strength} and must be a positive number; llama.cpp negates with FILE:-1")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "vector.gguf"
        writer = GGUFWriter(path, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint or vector.lineage.model)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vector.directions))
        writer.add_name(f"{vector.lineage.model} {vector.dimension}")
        writer.add_string(f"{_PREFIX}dimension", vector.dimension)
        writer.add_float64(f"{_PREFIX}strength", strength)
        for name, value in vector.lineage.to_strings().items():
            writer.add_string(f"{_PREFIX}{name}", value)
        for layer, offset in vector.offsets(strength).items():
            writer.add_tensor(f"direction.{layer}", offset)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def vector_from_gguf(content: bytes, *, dimension: str | None = None, lineage: Lineage | None = None) -> SteeringVector:
    """The steering vector of a control vector: at each of its layers the unit direction, its length as the scale.

    So strength 1 is the file at scale 1. ``dimension`` and ``lineage`` say what the vector steers and which model it
    belongs to; a file that this project wrote says so itself. All-zero layers are left out. Raises ``CorruptFile``, and
    ``InvalidInput`` when neither the file nor the caller says where it came from.
    """
    if len(content) > LARGEST_FILE_BYTES:
        raise CorruptFile(
            f"the file has {counted(len(content), 'byte')}; no control vector has more than {LARGEST_FILE_BYTES}"
        )
    file = read_gguf(content)
    architecture = file.metadata.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise CorruptFile(f"the file's architecture is {architecture!r} and a control vector's is {ARCHITECTURE!r}")
    provenance = {key.removeprefix(_PREFIX): value for key, value in file.metadata.items() if key.startswith(_PREFIX)}
    dimension = dimension or _dimension(provenance)
    lineage = replace(lineage or _lineage(provenance), method=IMPORT_METHOD)
    offsets = {_layer(name): _finite(name, tensor) for name, tensor in file.tensors.items()}
    directions = tuple(_direction(layer, offsets[layer]) for layer in sorted(offsets) if offsets[layer].any())
    if not directions:
        raise CorruptFile(
            f"the control vector steers nothing: {counted(len(offsets), 'tensor')}, and none other than zero"
        )
    widths = {len(direction.unit) for direction in directions}
    if len(widths) > 1:
        raise CorruptFile(f"the layers differ in width: {sorted(widths)}")
    return SteeringVector(dimension, directions, lineage)


def _layer(name: str) -> int:
    match = _TENSOR.fullmatch(name)
    if match is None or int(match.group(1)) == 0:
        raise CorruptFile(f"the file has a tensor {name!r}; a control vector's are direction.<layer>, layers from 1")
    return int(match.group(1))


def _finite(name: str, offset: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, " d_model"]:
    """Before anything is computed of it: some NaN raise a floating-point exception whenever they are looked at."""
    if offset.ndim != 1 or not np.isfinite(offset).all():
        raise CorruptFile(f"{name} has shape {offset.shape}; it must be one axis of finite numbers")
    return offset


def _direction(layer: int, offset: Float32[np.ndarray, " d_model"]) -> Direction:
    length = float(np.linalg.norm(offset.astype(np.float64)))
    if length > float(np.finfo(np.float32).max):
        raise CorruptFile(f"direction.{layer} has length {length:.3g}, which no hidden state can be moved by")
    return Direction(layer, (offset.astype(np.float64) / length).astype(np.float32), length, length, 0.0)


def _dimension(provenance: Mapping[str, Value]) -> str:
    if "dimension" not in provenance:
        raise InvalidInput("the file does not say which dimension it steers; give dimension=, such as toxicity")
    return str(provenance["dimension"])


def _lineage(provenance: Mapping[str, Value]) -> Lineage:
    if "model" not in provenance:
        raise InvalidInput("the file does not say which model it belongs to; give lineage= with its model")
    return Lineage.from_strings({field.name: str(provenance.get(field.name, "")) for field in fields(Lineage)})
