"""GGUF reader: the metadata and the float32 tensors of a file, from its bytes.

Files to import come from anywhere, so every count and length in one is checked against the bytes that are there; the
reader of the ``gguf`` package trusts them. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from registry.counts import counted
from registry.errors import CorruptFile

Value = int | float | bool | str | list["Value"]

_VERSIONS = (2, 3)
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_F32 = 0
_MOST_AXES = 4
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class GgufFile:
    """The content of a file."""

    metadata: Mapping[str, Value]
    tensors: Mapping[str, Float32[np.ndarray, "..."]]


def read_gguf(content: bytes) -> GgufFile:
    """Parse a little-endian file. Raises ``CorruptFile`` where it is damaged, or a tensor is not float32."""
    cursor = _Cursor(content)
    if cursor.take(4) != b"GGUF":
        raise CorruptFile(f"the file begins with {content[:4]!r} and a GGUF file with b'GGUF'")
    version = cursor.integer("<I")
    if version not in _VERSIONS:
        raise CorruptFile(f"the file is GGUF version {version}; this program reads versions {_VERSIONS}")
    tensor_count, value_count = cursor.integer("<Q"), cursor.integer("<Q")
    metadata = dict(_entry(cursor) for _ in range(value_count))
    layouts = [_layout(cursor) for _ in range(tensor_count)]
    names = [name for name, _, _ in layouts]
    if len(set(names)) < len(names):
        raise CorruptFile(f"the file has the tensor {max(names, key=names.count)!r} more than once; write it once")
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise CorruptFile(f"general.alignment is {alignment!r} and must be a positive whole number")
    start = math.ceil(cursor.offset / alignment) * alignment
    return GgufFile(metadata, {name: _tensor(content, start + offset, shape) for name, shape, offset in layouts})


class _Cursor:
    """A position in the bytes that moves forward, never past the end."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.offset = 0

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.offset:
            raise CorruptFile(
                f"the file has {counted(len(self.content), 'byte')} and claims {count} more at {self.offset}"
            )
        self.offset += count
        return self.content[self.offset - count : self.offset]

    def scalar(self, layout: str) -> int | float | bool:
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout)))
        result: int | float | bool = value
        return result

    def integer(self, layout: str) -> int:
        return int(self.scalar(layout))

    def text(self) -> str:
        return self.take(self.integer("<Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            item, count = self.integer("<I"), self.integer("<Q")
            if item == _ARRAY:
                raise CorruptFile("the file's metadata has an array of arrays, which no control vector needs")
            return [self.value(item) for _ in range(count)]
        if kind not in _SCALARS:
            raise CorruptFile(f"the file's metadata has a value of type {kind}; GGUF has types 0 to 12")
        return self.scalar(_SCALARS[kind])


def _entry(cursor: _Cursor) -> tuple[str, Value]:
    key = cursor.text()
    return key, cursor.value(cursor.integer("<I"))


def _layout(cursor: _Cursor) -> tuple[str, tuple[int, ...], int]:
    """A tensor's name, its shape in row-major order, and its offset in the data."""
    name = cursor.text()
    axes = cursor.integer("<I")
    if axes > _MOST_AXES:
        raise CorruptFile(f"tensor {name!r} has {axes} axes; GGUF allows {_MOST_AXES}")
    shape = tuple(cursor.integer("<Q") for _ in range(axes))[::-1]
    element_type = cursor.integer("<I")
    if element_type != _F32:
        raise CorruptFile(f"tensor {name!r} has GGML type {element_type}; control vectors have type {_F32}, float32")
    return name, shape, cursor.integer("<Q")


def _tensor(content: bytes, start: int, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    count = math.prod(shape)
    if start + 4 * count > len(content):
        raise CorruptFile(f"the file has {counted(len(content), 'byte')} and a tensor ends at byte {start + 4 * count}")
    return np.frombuffer(content, np.dtype("<f4"), count, start).reshape(shape)
